"""Run a schedule for real and hold it against the plain model, its budget and its prediction."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.executor.compare import (
    Difference,
    Outcome,
    differ,
    gradient_distance,
    largest_difference,
    largest_gradient_difference,
    run_once,
)
from remora.executor.measure import failed_measurement, measure_step
from remora.executor.memory.install import apply
from remora.executor.step import State, model_device, preserved
from remora.executor.training import trained_parameters, ways_apart
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.schedule.schedule import Placement, Schedule
from remora.simulator.records import Estimate, Measurement, Verification

__all__ = [
    "BUDGET_SLACK",
    "LOSSY_TOLERANCE",
    "LOSSY_WAY_TOLERANCE",
    "PEAK_TOLERANCE",
    "TIME_TOLERANCE",
    "verify",
]

PEAK_TOLERANCE = 0.03
"""Share by which the measured peak may pass the predicted bound."""

BUDGET_SLACK = 0.001
"""Share by which the measured peak may pass the budget: what no trace sees, a loss scalar or an
optimizer's step counters, must not fail a plan that uses its budget to the last byte."""

TIME_TOLERANCE = 0.15
"""Share by which the measured step time may differ from the predicted one without a remark."""

_NOISE_FACTOR = 4.0
"""Gradients and parameters may differ by so many times what two plain runs differ by."""

LOSSY_TOLERANCE = 0.05
"""Share of their length by which all gradients together may differ where saved tensors are
compressed."""

LOSSY_WAY_TOLERANCE = 0.25
"""Share of the way that all parameters together went in a few optimizer steps by which they may end
apart where saved tensors or the optimizer's state are compressed. It is wider because Adam turns
every tiny gradient, whose sign an error can change, into a whole step."""

_SEED = 20240
_NO_DIFFERENCE = Difference("", 0.0)


def verify(  # noqa: PLR0913 - one keyword per thing to hold the run against
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    graph: ModelGraph,
    schedule: Schedule,
    *,
    budget_bytes: int | None = None,
    estimate: Estimate | None = None,
    optimizer_name: str = "adamw",
    repetitions: int = 10,
    allow_lossy: bool = False,
) -> Verification:
    """Run the plain and the scheduled model in this process and compare everything.

    Loss, gradients and buffers of a forward and backward, and the parameters after a few optimizer
    steps, must be equal bit by bit on the CPU; on CUDA they may differ by a few times what two
    plain runs differ by, which is nothing where the kernels are deterministic. If the schedule
    compresses saved tensors, all gradients together may differ by :data:`LOSSY_TOLERANCE` and all
    parameters by :data:`LOSSY_WAY_TOLERANCE`, and ``detail`` tells the errors. Parameters,
    buffers, gradients and random state are restored afterwards.

    Args:
        model: the module that ``graph`` was traced from, in training mode.
        example_inputs: one batch of the traced shape.
        loss: of the output; None for the default.
        graph: of the model.
        schedule: for that graph, on one device.
        budget_bytes: limit of the measured peak; None for no limit.
        estimate: prediction to compare with; None for none.
        optimizer_name: optimizer of the compared and of the measured steps.
        repetitions: most timed steps.
        allow_lossy: whether the schedule may compress saved tensors.

    Returns:
        One flag per possible failure. A run that dies sets ``run_failed``, with its ``detail``.

    Raises:
        InvalidInputError: the schedule does not fit the graph, the model or this function.
    """
    if schedule.pipeline.micro_batches != 1:
        raise InvalidInputError(
            f"pipeline.micro_batches is {schedule.pipeline.micro_batches}; allowed here: 1"
        )
    job = _Job(model, example_inputs, loss, optimizer_name)
    with preserved(model) as state:
        plain = _plain(job, state)
        with apply(model, graph, schedule, allow_lossy=allow_lossy) as handle:
            scheduled, failure = _run(job, state)
            if failure is None:
                measurement = measure_step(model, example_inputs, loss, optimizer_name, repetitions)
            else:
                measurement = failure
    lossy_state = schedule.state.optimizer is Placement.EIGHT_BIT
    errors = handle.compression_error
    comparison = _comparison(dict(model.named_parameters()), plain, scheduled, errors, lossy_state)
    return _verdict(comparison, measurement, budget_bytes, estimate)


@dataclass(frozen=True)
class _Job:
    """What is run."""

    model: nn.Module
    example_inputs: ExampleInputs
    loss: LossFunction | None
    optimizer_name: str


@dataclass(frozen=True)
class _Run:
    """What a forward and backward left behind, and the parameters after optimizer steps."""

    outcome: Outcome
    parameters: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Plain:
    """The runs of the plain model.

    Attributes:
        run: None if it died.
        tolerance: how far single values may differ from it, relative to the largest one.
        way_tolerance: share of the way of all parameters by which they may end apart.
        remark: why there is no run.
    """

    run: _Run | None
    tolerance: float = 0.0
    way_tolerance: float = 0.0
    remark: str = ""


@dataclass(frozen=True)
class _Comparison:
    """How the two models differ; nothing if one of them died."""

    loss: bool = False
    gradients: bool = False
    parameters: bool = False
    buffers: bool = False
    random_state: bool = False
    worst_gradient: Difference = _NO_DIFFERENCE
    worst_parameter: Difference = _NO_DIFFERENCE
    remark: str = ""


def _plain(job: _Job, state: State) -> _Plain:
    """Run the plain model, and where its kernels may not be deterministic, twice."""
    run, failure = _run(job, state)
    if run is None:
        detail = failure.detail if failure is not None else ""
        remark = f"the plain model did not run, so nothing was compared: {detail}"
        return _Plain(None, remark=remark)
    if model_device(job.model).type == "cpu":
        return _Plain(run)
    again, _ = _run(job, state)
    if again is None:
        return _Plain(run)
    start = dict(job.model.named_parameters())
    return _Plain(
        run,
        _NOISE_FACTOR * largest_gradient_difference(run.outcome, again.outcome).relative,
        _NOISE_FACTOR * ways_apart(start, run.parameters, again.parameters),
    )


def _run(job: _Job, state: State) -> tuple[_Run | None, Measurement | None]:
    """Run from the saved state; a run that dies is returned as a failed measurement."""
    try:
        outcome = run_once(job.model, job.example_inputs, job.loss, _SEED)
        state.restore()
        parameters = trained_parameters(
            job.model, job.example_inputs, job.loss, job.optimizer_name, _SEED
        )
    except Exception as error:
        return None, failed_measurement(error, str(model_device(job.model)))
    finally:
        state.restore()
        gc.collect()
    return _Run(outcome, parameters), None


def _comparison(
    start: Mapping[str, Tensor],
    plain: _Plain,
    scheduled: _Run | None,
    compression_errors: Mapping[str, float],
    lossy_state: bool,
) -> _Comparison:
    if plain.run is None or scheduled is None:
        return _Comparison(remark=plain.remark)
    before, after, tolerance = plain.run.outcome, scheduled.outcome, plain.tolerance
    worst = largest_gradient_difference(before, after)
    gradients_differ, remark = worst.relative > tolerance, ""
    if compression_errors:
        distance = gradient_distance(before, after)
        gradients_differ = distance > max(LOSSY_TOLERANCE, tolerance)
        remark = _compression_remark(compression_errors, distance)
    worst_parameter = largest_difference(plain.run.parameters, scheduled.parameters)
    lossy = lossy_state or bool(compression_errors)
    way_tolerance = max(LOSSY_WAY_TOLERANCE if lossy else 0.0, plain.way_tolerance)
    return _Comparison(
        loss=differ(before.loss, after.loss, tolerance),
        gradients=gradients_differ,
        parameters=worst_parameter.relative > 0
        and ways_apart(start, plain.run.parameters, scheduled.parameters) > way_tolerance,
        buffers=any(
            differ(value, after.buffers[name], tolerance) for name, value in before.buffers.items()
        ),
        random_state=any(
            differ(a, b, 0.0)
            for a, b in zip(before.random_states, after.random_states, strict=True)
        ),
        worst_gradient=worst,
        worst_parameter=worst_parameter,
        remark=remark,
    )


def _verdict(
    comparison: _Comparison,
    measurement: Measurement,
    budget_bytes: int | None,
    estimate: Estimate | None,
) -> Verification:
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
