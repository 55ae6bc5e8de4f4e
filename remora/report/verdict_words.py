"""The verdict of a real run, and predicted beside measured figures, in words and table cells."""

from __future__ import annotations

from remora.report.content import ReportContent
from remora.report.wording import bytes_text, duration_text, overhead_text
from remora.schedule.inference import Mode
from remora.simulator.records import PrecisionError, Verification

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
        late = ""
        if verification.time_off:
            late = (
                f"; the {run} time is outside the tolerance (if the machine was busy, now or "
                "when it was measured: 'remora doctor' names the folder of measurements to delete)"
            )
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
