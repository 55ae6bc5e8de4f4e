"""Hold a scheduled model against the plain one: values, memory and time."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from remora.errors import InvalidInputError, RemoraError
from remora.executor.compare import Outcome, largest_gradient_difference, run_once
from remora.executor.measure import failed_measurement, measure_step
from remora.executor.memory.install import Handle, apply
from remora.executor.step import State, model_device, preserved
from remora.executor.training import trained_parameters, ways_apart
from remora.executor.verdict import Comparison, Tolerance, TrainedOutcome, compare_runs, verdict
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.schedule.schedule import Placement, Schedule
from remora.simulator.records import Estimate, Measurement, Verification

__all__ = ["verify"]

_NOISE_FACTOR = 4.0
"""Gradients and parameters may differ by so many times what two plain runs differ by."""

_SEED = 20240


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
    compresses, the tolerances of :mod:`remora.executor.verdict` for lossy runs hold, and
    ``detail`` tells the errors. If units compute in fewer bits, nothing but the random state has to
    be equal: ``precision`` has the errors and their tolerances, and ``plain`` the measured plain
    model. Parameters, buffers, gradients and random state are restored
    afterwards.

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
        MissingExtraError: the schedule wants an optimizer of a package that is not installed.
    """
    if schedule.pipeline.micro_batches != 1:
        raise InvalidInputError(
            f"pipeline.micro_batches is {schedule.pipeline.micro_batches}; allowed here: 1"
        )
    job = _Job(model, example_inputs, loss, optimizer_name)
    under_plan = functools.partial(apply, model, graph, schedule, allow_lossy=allow_lossy)
    errors: dict[str, float] = {}
    with preserved(model) as state:
        plain = _plain(job, state)
        precisions = schedule.precision.units
        measured = _measured_plain(job, state, repetitions) if precisions else None
        rounded = _rounded(job, state) if precisions and plain.run is not None else None
        scheduled, failure = _run(job, state, under_plan, errors)
        if failure is None:
            with under_plan() as handle:
                measurement = measure_step(
                    model, example_inputs, loss, optimizer_name, repetitions, handle
                )
        else:
            measurement = failure
    lossy_state = schedule.state.optimizer is Placement.EIGHT_BIT
    comparison = Comparison(remark=plain.remark)
    if plain.run is not None and scheduled is not None:
        start = dict(model.named_parameters())
        comparison = compare_runs(
            start,
            plain.run,
            scheduled,
            plain.tolerance,
            errors,
            lossy_state,
            precisions,
            rounded,
        )
    return verdict(comparison, measurement, budget_bytes, estimate, measured)


_UnderPlan = Callable[[], AbstractContextManager[Handle | None]]
"""Puts a plan into effect, or nothing."""


@dataclass(frozen=True)
class _Job:
    """What is run."""

    model: nn.Module
    example_inputs: ExampleInputs
    loss: LossFunction | None
    optimizer_name: str


@dataclass(frozen=True)
class _Plain:
    """The run of the plain model; None if it died, with a remark that says why."""

    run: TrainedOutcome | None
    tolerance: Tolerance
    remark: str = ""


def _plain(job: _Job, state: State) -> _Plain:
    """Run the plain model, and where its kernels may not be deterministic, twice."""
    run, failure = _run(job, state, contextlib.nullcontext)
    if run is None:
        detail = failure.detail if failure is not None else ""
        remark = f"the plain model did not run, so nothing was compared: {detail}"
        return _Plain(None, Tolerance(), remark)
    if model_device(job.model).type == "cpu":
        return _Plain(run, Tolerance())
    again, _ = _run(job, state, contextlib.nullcontext)
    if again is None:
        return _Plain(run, Tolerance())
    start = dict(job.model.named_parameters())
    tolerance = Tolerance(
        _NOISE_FACTOR * largest_gradient_difference(run.outcome, again.outcome).relative,
        _NOISE_FACTOR * ways_apart(start, run.parameters, again.parameters),
    )
    return _Plain(run, tolerance)


def _measured_plain(job: _Job, state: State, repetitions: int) -> Measurement:
    """Time and peak of the plain model, so that what fewer bits save can be told."""
    run = (job.model, job.example_inputs, job.loss)
    measured = measure_step(*run, job.optimizer_name, repetitions)
    state.restore()
    return measured


def _rounded(job: _Job, state: State) -> Outcome:
    """Run the plain model, which is known to run, with weights rounded to bfloat16."""
    with torch.no_grad():
        for parameter in job.model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    outcome = run_once(job.model, job.example_inputs, job.loss, _SEED)
    state.restore()
    return outcome


def _run(
    job: _Job, state: State, under_plan: _UnderPlan, errors: dict[str, float] | None = None
) -> tuple[TrainedOutcome | None, Measurement | None]:
    """Run from the saved state; a run that dies is returned as a failed measurement.

    Args:
        job: what is run.
        state: from which.
        under_plan: puts a plan into effect; the state is put back without it.
        errors: receives the compression errors.
    """
    run = (job.model, job.example_inputs, job.loss)
    try:
        with under_plan() as handle:
            outcome = run_once(*run, _SEED, handle)
            if errors is not None and handle is not None:
                errors.update(handle.compression_error)
        state.restore()
        with under_plan() as handle:
            parameters = trained_parameters(*run, job.optimizer_name, _SEED, handle)
    except RemoraError:
        raise
    except Exception as error:
        return None, failed_measurement(error, str(model_device(job.model)))
    finally:
        state.restore()
        gc.collect()
    return TrainedOutcome(outcome, parameters), None
