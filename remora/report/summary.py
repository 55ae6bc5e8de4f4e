"""The words and table cells that the terminal and the HTML report share."""

from __future__ import annotations

import math

from remora.report.content import CandidateRow, ReportContent
from remora.report.contribution import contribution_sentences
from remora.report.plan_words import is_plain, plan_sentences
from remora.report.unit_actions import KEPT, OFFLOADED, RECOMPUTED, fates
from remora.report.verdict_words import verdict_sentence
from remora.report.wording import (
    bytes_text,
    compared_text,
    duration_text,
    kind_text,
    overhead_text,
    percent_text,
)
from remora.schedule.inference import Mode
from remora.simulator.shares import (
    bubble_share,
    bubble_shares,
    busy_s_by_kind,
    communication_overlap_share,
    overlap_share,
)

__all__ = [
    "busy_cells",
    "candidate_cells",
    "summary_groups",
    "summary_sentences",
]

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""


def summary_sentences(content: ReportContent, with_plan: bool = True) -> list[str]:
    """Say in words what was planned, what it costs and what it saves.

    Args:
        content: what to sum up.
        with_plan: say how the model is cut and where state lives, if there is anything to say.
    """
    groups = summary_groups(content, with_plan)
    return [sentence for sentences in groups.values() for sentence in sentences]


def summary_groups(content: ReportContent, with_plan: bool = True) -> dict[str, list[str]]:
    """Return the sentences of the summary under what they answer; see :func:`summary_sentences`."""
    train = content.mode is Mode.TRAIN
    groups = {
        "Asked": [_asked_sentence(content), content.hardware_state],
        "Answer": [_figures_sentence(content), *_pass_sentences(content)],
        "How sure": [_cost_model_sentence(content)],
        "How good": [
            _bound_sentence(content.lower_bound_s),
            *contribution_sentences(content.candidates),
        ],
        "Pipeline": plan_sentences(content) if with_plan and not is_plain(content.schedule) else [],
        "Units": [_actions_sentence(content)] if train else [],
        "Waiting": _shares_sentences(content),
        "At the peak": [_peak_sentence(content)],
        "Real run": []
        if content.verification is None
        else [verdict_sentence(content.verification, content.mode)],
    }
    shown = {name: [s for s in sentences if s] for name, sentences in groups.items()}
    return {name: sentences for name, sentences in shown.items() if sentences}


def _asked_sentence(content: ReportContent) -> str:
    return (
        f"{content.graph.model_name} on {content.hardware_name}: {len(content.graph.units)} units, "
        f"memory budget {bytes_text(content.budget_bytes)} per device."
    )


def _figures_sentence(content: ReportContent) -> str:
    estimate = content.estimate
    saved = content.keep_all_peak_bytes - estimate.peak_memory_bytes
    than = f"{bytes_text(abs(saved))} {'less' if saved > 0 else 'more'} than"
    return (
        f"The schedule of {content.agent} is predicted to take "
        f"{duration_text(estimate.step_time_s)} per {content.run_name} "
        f"({compared_text(estimate.step_time_s, content.keep_all_step_time_s)} keeping all) "
        f"with a peak of {bytes_text(estimate.peak_memory_bytes)} "
        f"({than if saved else 'that of'} keeping all)."
    )


def _peak_sentence(content: ReportContent) -> str:
    kinds = sorted(content.estimate.breakdown_bytes.items(), key=lambda item: -item[1])
    shares = ", ".join(
        f"{kind.replace('_', ' ')} {bytes_text(size)}" for kind, size in kinds if size
    )
    return f"At the peak the memory holds {shares}."


def _pass_sentences(content: ReportContent) -> list[str]:
    """Latency and throughput of inference."""
    estimate, count = content.estimate, content.schedule.pipeline.micro_batches
    if estimate.latency_s is None or estimate.sequences_per_s is None:
        return []
    first = "The batch" if count == 1 else f"The first of {count} micro-batches"
    return [
        f"{first} is through after {duration_text(estimate.latency_s)}; all devices together "
        f"finish {estimate.sequences_per_s:.4g} sequences per second."
    ]


def _cost_model_sentence(content: ReportContent) -> str:
    """Who predicted, why, and how sure the peak is."""
    estimate = content.estimate
    reason = f", {content.cost_reason}" if content.cost_reason else ""
    sentence = f"Predicted by cost model {estimate.cost_model}{reason}."
    if not estimate.bound_confidence:
        return sentence
    return (
        f"{sentence} With a confidence of {estimate.bound_confidence:.0%} the peak stays below "
        f"{bytes_text(estimate.peak_bound_bytes)}."
    )


def _bound_sentence(lower_bound_s: float) -> str:
    if math.isinf(lower_bound_s):
        return "No schedule fits this budget."
    return f"No schedule within this budget takes less than {duration_text(lower_bound_s)}."


def candidate_cells(content: ReportContent) -> Cells:
    """Return header and rows of the table of candidates; the lower bound is the last row."""
    header = ("candidate", f"{content.run_name} time", "over keep all", "peak", "search", "fits")
    bound_s = content.lower_bound_s
    overhead = overhead_text(bound_s, content.keep_all_step_time_s)
    bound = ("lower bound", duration_text(bound_s), overhead, "-", "-", "-")
    return header, [*(_candidate(row, content) for row in content.candidates), bound]


def busy_cells(content: ReportContent) -> Cells:
    """Return header and rows of the seconds that all ranks spend on each kind of work."""
    rows: list[tuple[str, ...]] = [
        (kind_text(kind), duration_text(busy_s))
        for kind, busy_s in busy_s_by_kind(content.timeline).items()
    ]
    return ("work", "time, all ranks together"), rows


def _candidate(row: CandidateRow, content: ReportContent) -> tuple[str, ...]:
    name = f"{row.name} *" if row.chosen else row.name
    search = duration_text(row.search_s)
    if row.step_time_s is None or row.peak_memory_bytes is None:
        return (name, "-", "-", "-", search, row.note or "no")
    return (
        name,
        duration_text(row.step_time_s),
        overhead_text(row.step_time_s, content.keep_all_step_time_s),
        bytes_text(row.peak_memory_bytes),
        search,
        "yes" if row.feasible else "no",
    )


def _actions_sentence(content: ReportContent) -> str:
    memory = content.schedule.memory
    groups = [group for top in memory.groups for group in top.walk()]
    counts = fates(content.graph, memory)
    rest = "".join(
        f", {count} {name}"
        for name, count in sorted(counts.items())
        if name not in (KEPT, RECOMPUTED, OFFLOADED)
    )
    return (
        f"{counts[KEPT]} units are kept, {counts[RECOMPUTED]} recomputed "
        f"({len(groups)} groups), {counts[OFFLOADED]} offloaded{rest}."
    )


def _shares_sentences(content: ReportContent) -> list[str]:
    """Say how long ranks wait and what hides behind compute; nothing for a lone busy device."""
    timeline = content.timeline
    sentences = []
    idle = bubble_shares(timeline)
    if len(idle) > 1:
        least, most = percent_text(min(idle)), percent_text(max(idle))
        ranks = (
            ""
            if least == most
            else (
                f"; from {least} on rank {idle.index(min(idle))} "
                f"to {most} on rank {idle.index(max(idle))}"
            )
        )
        sentences.append(
            f"The ranks' compute is idle for {percent_text(bubble_share(timeline))} of the "
            f"{content.run_name} "
            f"(bubble{ranks})."
        )
    for what, share in (
        ("host copies", overlap_share(timeline)),
        ("messages and collectives", communication_overlap_share(timeline)),
    ):
        if share is not None:
            sentences.append(f"{percent_text(share)} of the time of {what} is hidden by compute.")
    return sentences
