"""What two runs differ in, and the verdict on a schedule: one flag per possible failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from remora.executor.compare import (
    Difference,
    Outcome,
    differ,
    gradient_distance,
    largest_difference,
    largest_gradient_difference,
)
from remora.executor.precision_errors import step_errors
from remora.executor.training import ways_apart
from remora.graph.precision.precision import Precision
from remora.simulator.records import Estimate, Measurement, PrecisionError, Verification

__all__ = [
    "BUDGET_SLACK",
    "LOSSY_TOLERANCE",
    "LOSSY_WAY_TOLERANCE",
    "PEAK_TOLERANCE",
    "REDUCED_WAY_TOLERANCE",
    "TIME_TOLERANCE",
    "Comparison",
    "Tolerance",
    "TrainedOutcome",
    "compare_runs",
    "verdict",
]

PEAK_TOLERANCE = 0.03
"""Share by which the measured peak may pass the predicted bound."""

BUDGET_SLACK = 0.001
"""Share by which the measured peak may pass the budget: what no trace sees, a loss scalar or an
optimizer's step counters, must not fail a plan that uses its budget to the last byte."""

TIME_TOLERANCE = 0.15
"""Share by which the measured step time may differ from the predicted one without a remark."""

LOSSY_TOLERANCE = 0.05
"""Share of their length by which all gradients together may differ where saved tensors are
compressed."""

LOSSY_WAY_TOLERANCE = 0.25
"""Share of the way that all parameters together went in a few optimizer steps by which they may end
apart where saved tensors or the optimizer's state are compressed. It is wider because Adam turns
every tiny gradient, whose sign an error can change, into a whole step."""

REDUCED_WAY_TOLERANCE = 0.5
"""The same where units compute in fewer bits."""

_NO_DIFFERENCE = Difference("", 0.0)


@dataclass(frozen=True)
class TrainedOutcome:
    """What a forward and backward left behind, and the parameters after optimizer steps."""

    outcome: Outcome
    parameters: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a run may be from the plain one.

    Attributes:
        values: of single values, relative to the largest one of their tensor.
        way: share of the way of all parameters by which they may end apart.
        floor: gradients count as no smaller than this share of the largest entry of all: those
            that are zero but for rounding, as of a bias before a softmax, are compared with it.
    """

    values: float = 0.0
    way: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """How the two models differ; nothing if one of them died."""

    loss: bool = False
    gradients: bool = False
    parameters: bool = False
    buffers: bool = False
    random_state: bool = False
    worst_gradient: Difference = _NO_DIFFERENCE
    worst_parameter: Difference = _NO_DIFFERENCE
    remark: str = ""
    precision: PrecisionError | None = None


def compare_runs(
    start: Mapping[str, Tensor],
    plain: TrainedOutcome,
    scheduled: TrainedOutcome,
    tolerance: Tolerance,
    compression_errors: Mapping[str, float],
    lossy_state: bool,
    precisions: Sequence[Precision] = (),
    rounded: Outcome | None = None,
) -> Comparison:
    """Find what two runs differ in.

    Args:
        start: parameters before both, by name.
        plain: run of the plain model.
        scheduled: run of the schedule.
        tolerance: for what is not lossy.
        compression_errors: of saved tensors, by name; empty if none was compressed.
        lossy_state: whether the optimizer's state was compressed.
        precisions: of the units; empty where all compute in the model's own.
        rounded: of the plain model with weights rounded to bfloat16, where units have fewer bits.
    """
    if precisions:
        return _compare_reduced(start, plain, scheduled, precisions, rounded)
    before, after = plain.outcome, scheduled.outcome
    worst = largest_gradient_difference(before, after, tolerance.floor)
    gradients_differ, remark = worst.relative > tolerance.values, ""
    if compression_errors:
        distance = gradient_distance(before, after)
        gradients_differ = distance > max(LOSSY_TOLERANCE, tolerance.values)
        remark = _compression_remark(compression_errors, distance)
    worst_parameter = largest_difference(plain.parameters, scheduled.parameters)
    lossy = lossy_state or bool(compression_errors)
    way_tolerance = max(LOSSY_WAY_TOLERANCE if lossy else 0.0, tolerance.way)
    return Comparison(
        loss=differ(before.loss, after.loss, tolerance.values),
        gradients=gradients_differ,
        parameters=worst_parameter.relative > 0
        and ways_apart(start, plain.parameters, scheduled.parameters) > way_tolerance,
        buffers=any(
            differ(value, after.buffers[name], tolerance.values)
            for name, value in before.buffers.items()
        ),
        random_state=_random_states_differ(before, after),
        worst_gradient=worst,
        worst_parameter=worst_parameter,
        remark=remark,
    )


def _compare_reduced(
    start: Mapping[str, Tensor],
    plain: TrainedOutcome,
    scheduled: TrainedOutcome,
    precisions: Sequence[Precision],
    rounded: Outcome | None,
) -> Comparison:
    """Compare runs of which one computes in fewer bits: only the random state has to be equal.

    The parameters have to go the same way for the most part: Adam turns every gradient, however
    small, into a whole step, so one that is rounded to the other sign goes the other way.
    """
    before, after = plain.outcome, scheduled.outcome
    errors = step_errors(before, after, precisions, rounded)
    buffers = largest_difference(before.buffers, after.buffers)
    worst = largest_difference(plain.parameters, scheduled.parameters)
    apart = ways_apart(start, plain.parameters, scheduled.parameters)
    return Comparison(
        loss=errors.loss > errors.loss_tolerance,
        gradients=errors.gradients > errors.gradient_tolerance,
        parameters=apart > REDUCED_WAY_TOLERANCE,
        buffers=buffers.relative > errors.gradient_tolerance,
        random_state=_random_states_differ(before, after),
        worst_gradient=Difference(errors.worst_gradient, errors.max_gradient),
        worst_parameter=worst,
        precision=errors,
    )


def _random_states_differ(a: Outcome, b: Outcome) -> bool:
    pairs = zip(a.random_states, b.random_states, strict=True)
    return any(differ(before, after, 0.0) for before, after in pairs)


def verdict(
    comparison: Comparison,
    measurement: Measurement,
    budget_bytes: int | None,
    estimate: Estimate | None,
    plain: Measurement | None = None,
) -> Verification:
    """Set one flag per failure.

    Args:
        comparison: of a plain and a scheduled run.
        measurement: of the schedule.
        budget_bytes: limit of the measured peak; None for no limit.
        estimate: prediction to compare with; None for none.
        plain: measurement of the plain model, if there is one.
    """
    ran = measurement.status == "ok"
    bound_bytes = None if estimate is None else estimate.peak_bound_bytes * (1 + PEAK_TOLERANCE)
    return Verification(
        loss_differs=comparison.loss,
        gradients_differ=comparison.gradients,
        buffers_differ=comparison.buffers,
        random_state_differs=comparison.random_state,
        over_budget=ran and _above(measurement.peak_memory_bytes, budget_bytes, BUDGET_SLACK),
        over_bound=ran and _above(measurement.peak_memory_bytes, bound_bytes),
        time_off=ran and estimate is not None and _time_off(measurement, estimate),
        run_failed=not ran,
        worst_gradient=comparison.worst_gradient.parameter,
        max_gradient_difference=comparison.worst_gradient.relative,
        measurement=measurement,
        detail=measurement.detail or comparison.remark,
        parameters_differ=comparison.parameters,
        worst_parameter=comparison.worst_parameter.parameter,
        max_parameter_difference=comparison.worst_parameter.relative,
        plain=plain,
        precision=comparison.precision,
    )


def _compression_remark(errors: Mapping[str, float], distance: float) -> str:
    worst = max(errors, key=lambda name: errors[name])
    return (
        f"{len(errors)} saved tensors were compressed, with errors up to {errors[worst]:.2%} of "
        f"the largest value (in {worst}); all gradients together differ by {distance:.2%}"
    )


def _above(measured_bytes: int, limit_bytes: float | None, slack: float = 0.0) -> bool:
    return limit_bytes is not None and measured_bytes > limit_bytes * (1 + slack)


def _time_off(measurement: Measurement, estimate: Estimate) -> bool:
    gap_s = abs(measurement.step_time_s - estimate.step_time_s)
    return gap_s > TIME_TOLERANCE * measurement.step_time_s
