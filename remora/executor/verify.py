"""Run a schedule for real and hold it against the plain model, its budget and its prediction."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from remora.errors import InvalidInputError
from remora.executor.compare import (
    Difference,
    Outcome,
    differ,
    gradient_distance,
    largest_gradient_difference,
    run_once,
)
from remora.executor.measure import failed_measurement, measure_step
from remora.executor.memory.install import apply
from remora.executor.step import State, model_device, preserved
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Measurement, Verification

__all__ = ["BUDGET_SLACK", "LOSSY_TOLERANCE", "PEAK_TOLERANCE", "TIME_TOLERANCE", "verify"]

PEAK_TOLERANCE = 0.03
"""Share by which the measured peak may pass the predicted bound."""

BUDGET_SLACK = 0.001
"""Share by which the measured peak may pass the budget: what no trace sees, a loss scalar or an
optimizer's step counters, must not fail a plan that uses its budget to the last byte."""

TIME_TOLERANCE = 0.15
"""Share by which the measured step time may differ from the predicted one without a remark."""

_NOISE_FACTOR = 4.0
"""Gradients may differ by so many times what two plain runs differ by."""

LOSSY_TOLERANCE = 0.05
"""Share of their length by which all gradients together may differ where saved tensors are
compressed."""

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

    Loss, gradients and buffers must be equal bit by bit on the CPU; on CUDA they may differ by a
    few times what two plain runs differ by, which is nothing where the kernels are
    deterministic. If the schedule compresses saved tensors, all gradients together may differ by
    :data:`LOSSY_TOLERANCE`, and ``detail`` tells the errors. Parameters, buffers, gradients and
    random state are restored afterwards.

    Args:
        model: the module that ``graph`` was traced from, in training mode.
        example_inputs: one batch of the traced shape.
        loss: of the output; None for the default.
        graph: of the model.
        schedule: for that graph, on one device.
        budget_bytes: limit of the measured peak; None for no limit.
        estimate: prediction to compare with; None for none.
        optimizer_name: optimizer of the measured steps.
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
    job = _Job(model, example_inputs, loss)
    with preserved(model) as state:
        plain, tolerance, remark = _plain_outcome(job, state)
        with apply(model, graph, schedule, allow_lossy=allow_lossy) as handle:
            scheduled, failure = _run(job, state)
            if failure is None:
                measurement = measure_step(model, example_inputs, loss, optimizer_name, repetitions)
            else:
                measurement = failure
    runs = _Runs(plain, scheduled, tolerance, remark, measurement, handle.compression_error)
    return _verdict(runs, budget_bytes, estimate)


@dataclass(frozen=True)
class _Job:
    """What is run."""

    model: nn.Module
    example_inputs: ExampleInputs
    loss: LossFunction | None


@dataclass(frozen=True)
class _Runs:
    """What the runs showed; an outcome is None where the run died."""

    plain: Outcome | None
    scheduled: Outcome | None
    tolerance: float
    remark: str
    measurement: Measurement
    compression_errors: Mapping[str, float]


def _plain_outcome(job: _Job, state: State) -> tuple[Outcome | None, float, str]:
    """Run the plain model; returns its outcome, the tolerance and a remark if it died."""
    plain, failure = _run(job, state)
    if plain is None or failure is not None:
        detail = failure.detail if failure is not None else ""
        return None, 0.0, f"the plain model did not run, so nothing was compared: {detail}"
    if model_device(job.model).type == "cpu":
        return plain, 0.0, ""
    again, _ = _run(job, state)
    noise = 0.0 if again is None else largest_gradient_difference(plain, again).relative
    return plain, _NOISE_FACTOR * noise, ""


def _run(job: _Job, state: State) -> tuple[Outcome | None, Measurement | None]:
    """Run once from the saved state; a run that dies is returned as a failed measurement."""
    try:
        outcome = run_once(job.model, job.example_inputs, job.loss, _SEED)
    except Exception as error:
        return None, failed_measurement(error, str(model_device(job.model)))
    finally:
        state.restore()
        gc.collect()
    return outcome, None


def _verdict(runs: _Runs, budget_bytes: int | None, estimate: Estimate | None) -> Verification:
    plain, scheduled, measurement = runs.plain, runs.scheduled, runs.measurement
    worst, remark = _NO_DIFFERENCE, runs.remark
    loss_differs = gradients_differ = buffers_differ = random_differs = False
    if plain is not None and scheduled is not None:
        worst = largest_gradient_difference(plain, scheduled)
        gradients_differ = worst.relative > runs.tolerance
        if runs.compression_errors:
            distance = gradient_distance(plain, scheduled)
            gradients_differ = distance > max(LOSSY_TOLERANCE, runs.tolerance)
            remark = _compression_remark(runs.compression_errors, distance)
        loss_differs = differ(plain.loss, scheduled.loss, runs.tolerance)
        buffers_differ = any(
            differ(value, scheduled.buffers[name], runs.tolerance)
            for name, value in plain.buffers.items()
        )
        random_differs = any(
            differ(a, b, 0.0)
            for a, b in zip(plain.random_states, scheduled.random_states, strict=True)
        )
    ran = measurement.status == "ok"
    bound_bytes = None if estimate is None else estimate.peak_bound_bytes * (1 + PEAK_TOLERANCE)
    return Verification(
        loss_differs=loss_differs,
        gradients_differ=gradients_differ,
        buffers_differ=buffers_differ,
        random_state_differs=random_differs,
        over_budget=ran and _above(measurement.peak_memory_bytes, budget_bytes, BUDGET_SLACK),
        over_bound=ran and _above(measurement.peak_memory_bytes, bound_bytes),
        time_off=ran and estimate is not None and _time_off(measurement, estimate),
        run_failed=not ran,
        worst_gradient=worst.parameter,
        max_gradient_difference=worst.relative,
        measurement=measurement,
        detail=measurement.detail or remark,
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
