"""The verdict of a real run, and predicted beside measured figures, in words and table cells."""

from __future__ import annotations

from remora.report.content import ReportContent
from remora.report.wording import bytes_text, duration_text, overhead_text
from remora.schedule.inference import Mode
from remora.simulator.records import Verification

__all__ = ["verdict_cells", "verdict_sentence"]


def verdict_cells(
    content: ReportContent, verification: Verification
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
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


def verdict_sentence(verification: Verification, mode: Mode = Mode.TRAIN) -> str:
    """Return the verdict in one sentence."""
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
    return f"FAILED: {names}{worst}{detail}."


def _plain_rows(content: ReportContent, verification: Verification) -> list[tuple[str, ...]]:
    plain = verification.plain
    assert plain is not None
    time_s, peak = content.keep_all_step_time_s, content.keep_all_peak_bytes
    return [
        (
            f"{content.run_name} time, plain model",
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
