"""The words and table cells that the terminal and the HTML report share."""

from __future__ import annotations

from collections.abc import Sequence

from remora.report.content import CandidateRow, ReportContent
from remora.report.wording import bytes_text, duration_text, overhead_text
from remora.schedule.schedule import Action
from remora.simulator.records import Verification

__all__ = ["candidate_cells", "summary_sentences", "verdict_cells", "verdict_sentence"]

Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""


def summary_sentences(content: ReportContent) -> list[str]:
    """Say in words what was planned, what it costs and what it saves."""
    estimate = content.estimate
    saved = content.keep_all_peak_bytes - estimate.peak_memory_bytes
    sentences = [
        f"{content.graph.model_name} on {content.hardware_name}: {len(content.graph.units)} units, "
        f"memory budget {bytes_text(content.budget_bytes)} per device.",
        f"The schedule of {content.agent} is predicted to take "
        f"{duration_text(estimate.step_time_s)} per step "
        f"({overhead_text(estimate.step_time_s, content.keep_all_step_time_s)} over keeping all) "
        f"with a peak of {bytes_text(estimate.peak_memory_bytes)} "
        f"({bytes_text(saved)} less than keeping all).",
        f"No schedule within this budget takes less than {duration_text(content.lower_bound_s)}.",
        _actions_sentence(content),
    ]
    kinds = sorted(estimate.breakdown_bytes.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in kinds if size)
    sentences.append(f"At the peak the memory holds {shares}.")
    if content.verification is not None:
        sentences.append(verdict_sentence(content.verification))
    return sentences


def candidate_cells(content: ReportContent) -> Cells:
    """Return header and rows of the table of candidates; the lower bound is the last row."""
    header = ("candidate", "step time", "over keep all", "peak", "search", "fits")
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
            "step time",
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


def verdict_sentence(verification: Verification) -> str:
    """Return the verdict in one sentence."""
    if verification.passed:
        same = "verified: loss, gradients, buffers and random state equal the plain model's"
        if verification.max_gradient_difference:
            same += f" (largest relative difference {verification.max_gradient_difference:.1e})"
        late = "; the step time is outside the tolerance" if verification.time_off else ""
        return f"{same}, and the peak is within the budget{late}."
    names = ", ".join(flag.replace("_", " ") for flag in verification.failures)
    worst = f" (worst: {verification.worst_gradient})" if verification.worst_gradient else ""
    detail = f": {verification.detail}" if verification.detail else ""
    return f"FAILED: {names}{worst}{detail}."


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
    return [
        (
            "step time, plain model",
            duration_text(time_s),
            duration_text(plain.step_time_s),
            overhead_text(plain.step_time_s, time_s),
        ),
        (
            "peak memory, plain model",
            bytes_text(peak),
            bytes_text(plain.peak_memory_bytes),
            overhead_text(plain.peak_memory_bytes, peak),
        ),
    ]


def _actions_sentence(content: ReportContent) -> str:
    options: Sequence[frozenset[Action]] = [
        option.distinct for option in content.schedule.memory.options
    ]
    groups = [group for top in content.schedule.memory.groups for group in top.walk()]
    grouped = {unit for group in groups for unit in range(group.start, group.end)}
    recomputed = {i for i, actions in enumerate(options) if Action.RECOMPUTE in actions}
    offloaded = sum(Action.OFFLOAD in actions for actions in options)
    again = len(grouped | recomputed)
    return (
        f"{len(options) - again - offloaded} units are kept, {again} recomputed "
        f"({len(groups)} groups), {offloaded} offloaded."
    )
