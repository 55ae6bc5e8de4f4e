"""The words and table cells that the terminal and the HTML report share."""

from __future__ import annotations

import math
from collections import Counter

from remora.report.content import CandidateRow, ReportContent
from remora.report.contribution import contribution_sentences
from remora.report.plan_words import is_plain, plan_sentences
from remora.report.unit_actions import KEPT, OFFLOADED, RECOMPUTED, fate
from remora.report.wording import (
    bytes_text,
    duration_text,
    kind_text,
    overhead_text,
    percent_text,
)
from remora.schedule.inference import Mode
from remora.simulator.records import PrecisionError, Verification
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
    "summary_sentences",
    "verdict_cells",
    "verdict_sentence",
]

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""


def summary_sentences(content: ReportContent, with_plan: bool = True) -> list[str]:
    """Say in words what was planned, what it costs and what it saves.

    Args:
        content: what to sum up.
        with_plan: say how the model is cut and where state lives, if there is anything to say.
    """
    estimate = content.estimate
    saved = content.keep_all_peak_bytes - estimate.peak_memory_bytes
    sentences = [
        f"{content.graph.model_name} on {content.hardware_name}: {len(content.graph.units)} units, "
        f"memory budget {bytes_text(content.budget_bytes)} per device.",
        *([content.hardware_state] if content.hardware_state else []),
        f"The schedule of {content.agent} is predicted to take "
        f"{duration_text(estimate.step_time_s)} per {content.run_name} "
        f"({overhead_text(estimate.step_time_s, content.keep_all_step_time_s)} over keeping all) "
        f"with a peak of {bytes_text(estimate.peak_memory_bytes)} "
        f"({bytes_text(saved)} less than keeping all).",
        *_pass_sentences(content),
        _cost_model_sentence(content),
        _bound_sentence(content.lower_bound_s),
        *contribution_sentences(content.candidates),
        *(plan_sentences(content) if with_plan and not is_plain(content.schedule) else []),
        *([_actions_sentence(content)] if content.mode is Mode.TRAIN else []),
        *_shares_sentences(content),
    ]
    kinds = sorted(estimate.breakdown_bytes.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in kinds if size)
    sentences.append(f"At the peak the memory holds {shares}.")
    if content.verification is not None:
        sentences.append(verdict_sentence(content.verification, content.mode))
    return sentences


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


def verdict_cells(content: ReportContent, verification: Verification) -> Cells:
    """Return header and rows of predicted against measured."""
    measured = verification.measurement
    estimate = content.estimate
    rows: list[tuple[str, ...]] = [
        (
            f"{content.run_name} time",
            duration_text(estimate.step_time_s),
            duration_text(measured.step_time_s),
            overhead_text(measured.step_time_s, estimate.step_time_s),
        ),
        (
            "peak memory",
            bytes_text(estimate.peak_memory_bytes),
            bytes_text(measured.peak_memory_bytes),
            overhead_text(measured.peak_memory_bytes, estimate.peak_memory_bytes),
        ),
    ]
    if verification.plain is not None and verification.plain.status == "ok":
        rows += _plain_rows(content, verification)
    return ("", "predicted", "measured", "difference"), rows


def busy_cells(content: ReportContent) -> Cells:
    """Return header and rows of the seconds that all ranks spend on each kind of work."""
    rows: list[tuple[str, ...]] = [
        (kind_text(kind), duration_text(busy_s))
        for kind, busy_s in busy_s_by_kind(content.timeline).items()
    ]
    return ("work", "time, all ranks together"), rows


def verdict_sentence(verification: Verification, mode: Mode = Mode.TRAIN) -> str:
    """Return the verdict in one sentence."""
    if verification.passed and verification.precision is not None:
        return _reduced_sentence(verification, verification.precision, mode)
    if verification.passed:
        what = (
            "loss, gradients, buffers, random state, and the parameters after optimizer steps"
            if mode is Mode.TRAIN
            else "outputs, generated tokens, buffers and random state"
        )
        same = f"verified: {what} equal the plain model's"
        if verification.max_gradient_difference:
            same += f" (largest relative difference {verification.max_gradient_difference:.1e})"
        run = "step" if mode is Mode.TRAIN else "pass"
        late = f"; the {run} time is outside the tolerance" if verification.time_off else ""
        remark = f" Note: {verification.detail}." if verification.detail else ""
        return f"{same}, and the peak is within the budget{late}.{remark}"
    names = ", ".join(flag.replace("_", " ") for flag in verification.failures)
    worst = "".join(
        f" (worst {what}: {name}, by {difference:.1e})"
        for what, name, difference in (
            ("gradient", verification.worst_gradient, verification.max_gradient_difference),
            ("parameter", verification.worst_parameter, verification.max_parameter_difference),
        )
        if name
    )
    detail = f": {verification.detail}" if verification.detail else ""
    lossy = verification.precision
    errors = "" if lossy is None else f"; {_errors_text(lossy, mode)}"
    return f"FAILED: {names}{worst}{detail}{errors}."


def _reduced_sentence(verification: Verification, errors: PrecisionError, mode: Mode) -> str:
    """The verdict on units in fewer bits: what they cost beside what they save."""
    plain, measured = verification.plain, verification.measurement
    saving = ""
    if plain is not None and plain.status == "ok":
        run = "step" if mode is Mode.TRAIN else "pass"
        time_text = overhead_text(measured.step_time_s, plain.step_time_s)
        peak_text = overhead_text(measured.peak_memory_bytes, plain.peak_memory_bytes)
        saving = f"; against the plain model the {run} takes {time_text} and the peak {peak_text}"
    return (
        f"verified within the tolerance of units in fewer bits: {_errors_text(errors, mode)}; "
        f"the random state is equal, and the peak is within the budget{saving}."
    )


def _errors_text(errors: PrecisionError, mode: Mode) -> str:
    if mode is not Mode.TRAIN:
        return (
            f"outputs differ by {errors.loss:.2%} (allowed {errors.loss_tolerance:.0%}), and "
            f"{errors.tokens:.0%} of the generated tokens do"
        )
    return (
        f"the loss differs by {errors.loss:.2%} (allowed {errors.loss_tolerance:.0%}) and all "
        f"gradients together by {errors.gradients:.2%} (allowed {errors.gradient_tolerance:.0%}; "
        f"rounding the weights alone: {errors.rounded_weights:.2%}), single ones by "
        f"{errors.median_gradient:.2%} in the median and {errors.max_gradient:.2%} at most "
        f"({errors.worst_gradient})"
    )


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


def _plain_rows(content: ReportContent, verification: Verification) -> list[tuple[str, ...]]:
    plain = verification.plain
    assert plain is not None
    time_s, peak = content.keep_all_step_time_s, content.keep_all_peak_bytes
    # That prediction is of units in fewer bits, as the plan's are.
    other = bool(content.schedule.precision.units)
    return [
        (
            f"{content.run_name} time, plain model",
            "-" if other else duration_text(time_s),
            duration_text(plain.step_time_s),
            "-" if other else overhead_text(plain.step_time_s, time_s),
        ),
        (
            "peak memory, plain model",
            "-" if other else bytes_text(peak),
            bytes_text(plain.peak_memory_bytes),
            "-" if other else overhead_text(plain.peak_memory_bytes, peak),
        ),
    ]


def _actions_sentence(content: ReportContent) -> str:
    memory = content.schedule.memory
    groups = [group for top in memory.groups for group in top.walk()]
    grouped = {unit for group in groups for unit in range(group.start, group.end)}
    fates = Counter(
        fate(content.graph, unit, option, unit.index in grouped)
        for unit, option in zip(content.graph.units, memory.options, strict=True)
    )
    rest = "".join(
        f", {count} {name}"
        for name, count in sorted(fates.items())
        if name not in (KEPT, RECOMPUTED, OFFLOADED)
    )
    return (
        f"{fates[KEPT]} units are kept, {fates[RECOMPUTED]} recomputed "
        f"({len(groups)} groups), {fates[OFFLOADED]} offloaded{rest}."
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
