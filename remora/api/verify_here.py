"""Verification in this process: on one device, or as one of the ranks that torchrun started."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from remora.api.model_source import ModelSource
from remora.api.passes import pass_example, trace_pass
from remora.api.placement import build_on
from remora.api.plan_checks import check_hash
from remora.errors import InvalidInputError
from remora.graph.batch import batch_of, with_batch
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.inference import InferenceSpec
from remora.schedule.schedule import Schedule
from remora.schedule.validate import validate_for_graph
from remora.simulator.records import Estimate, Verification
from remora.simulator.timeline import Timeline
from remora.zoo import Example

__all__ = ["VerifyJob", "needs_ranks", "started_ranks", "verify_here"]

_REPETITIONS = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerifyJob:
    """What to verify.

    Attributes:
        source: builds the model and its batch.
        schedule: to run.
        budget_bytes: limit of the measured peak.
        estimate: prediction to compare with.
        optimizer: optimizer of the measured steps.
        device_type: where the model runs.
        units: module paths that begin units, if they were given.
        allow_lossy: whether the schedule may compress saved tensors.
        world_size: number of ranks, each a process of its own.
        inference: tokens and cache, for a schedule of passes.
        time_limit_s: seconds that ranks wait for each other.
    """

    source: ModelSource
    schedule: Schedule
    budget_bytes: int
    estimate: Estimate
    optimizer: str
    device_type: str = "cpu"
    units: tuple[str, ...] | None = None
    allow_lossy: bool = False
    world_size: int = 1
    inference: InferenceSpec | None = None
    time_limit_s: float = 600.0


def started_ranks() -> int | None:
    """Return how many ranks torchrun started; None if this process is not one of them."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return None


def needs_ranks(schedule: Schedule, world_size: int) -> bool:
    """Whether a schedule runs as a pipeline: on several ranks, or in micro-batches."""
    return world_size > 1 or schedule.pipeline.micro_batches > 1


def verify_here(job: VerifyJob) -> Verification | None:
    """Build the model and verify.

    Returns:
        The verdict; None on ranks other than 0.

    Raises:
        FileFormatError: the schedule belongs to another model.
        UsageError: it cannot be run.
        ModelRunError: the model's own function failed.
    """
    several = needs_ranks(job.schedule, job.world_size)
    if several and job.inference is not None:
        return _verify_passes_as_rank(job, job.inference)
    if several:
        return _verify_as_rank(job)
    from remora.executor.verify import verify

    example = build_on(job.source, job.device_type)
    if job.inference is not None:
        return _verify_pass(job, pass_example(example), job.inference)
    graph = _graph(job, example)
    verification = verify(
        example.model,
        example.example_inputs,
        example.loss,
        graph,
        job.schedule,
        budget_bytes=job.budget_bytes,
        estimate=job.estimate,
        optimizer_name=job.optimizer,
        repetitions=_REPETITIONS,
        allow_lossy=job.allow_lossy,
    )
    if verification.run_failed:
        return verification
    return replace(verification, timeline=_timeline(job, example, graph))


def _verify_pass(job: VerifyJob, example: Example, spec: InferenceSpec) -> Verification:
    from remora.executor.passes.verify import verify_pass

    graph = _pass_graph(job, example)
    return verify_pass(
        example.model,
        example.example_inputs,
        graph,
        job.schedule,
        spec,
        budget_bytes=job.budget_bytes,
        estimate=job.estimate,
        repetitions=_REPETITIONS,
    )


def _timeline(job: VerifyJob, example: Example, graph: ModelGraph) -> Timeline | None:
    """Record a step of a schedule that has just run; None if it does not run again."""
    from remora.executor.timeline.record import record_timeline

    try:
        return record_timeline(
            example.model,
            example.example_inputs,
            example.loss,
            graph,
            job.schedule,
            optimizer_name=job.optimizer,
            allow_lossy=job.allow_lossy,
        )
    except Exception:
        # The verdict does not depend on the picture.
        _log.warning("the step could not be recorded", exc_info=True)
        return None


def _verify_as_rank(job: VerifyJob) -> Verification | None:
    from remora.executor.pipeline.limits import check_runs_on_ranks
    from remora.executor.pipeline.verify import verify_on_ranks
    from remora.executor.pipeline.world import joined_ranks, rank_device

    _check_started(job)
    device = rank_device(job.device_type)
    # Only the stages of this rank go to its device.
    example = build_on(job.source, "cpu")
    whole = _graph(job, example, device)
    validate_for_graph(whole, job.schedule, job.allow_lossy)
    graph = _micro_batch_graph(job, example, whole, device)
    check_runs_on_ranks(example.model, graph, job.schedule, job.world_size)
    with joined_ranks(device, job.time_limit_s):
        return verify_on_ranks(
            example.model,
            example.example_inputs,
            example.loss,
            graph,
            job.schedule,
            device=device,
            budget_bytes=job.budget_bytes,
            estimate=job.estimate,
            optimizer_name=job.optimizer,
            repetitions=_REPETITIONS,
        )


def _verify_passes_as_rank(job: VerifyJob, spec: InferenceSpec) -> Verification | None:
    from remora.executor.pipeline.limits import check_passes_run_on_ranks
    from remora.executor.pipeline.passes.verify import verify_passes_on_ranks
    from remora.executor.pipeline.world import joined_ranks, rank_device

    _check_started(job)
    device = rank_device(job.device_type)
    example = pass_example(build_on(job.source, "cpu"))
    check_passes_run_on_ranks(example.model, job.schedule, spec, job.world_size)
    whole = _pass_graph(job, example, device)
    validate_for_graph(whole, job.schedule, job.allow_lossy)
    graph = _part_graph(
        job, example, whole, lambda inputs: _trace_pass(job, example.model, inputs, device)
    )
    with joined_ranks(device, job.time_limit_s):
        return verify_passes_on_ranks(
            example.model,
            example.example_inputs,
            graph,
            job.schedule,
            spec,
            device=device,
            budget_bytes=job.budget_bytes,
            estimate=job.estimate,
            repetitions=_REPETITIONS,
        )


def _check_started(job: VerifyJob) -> None:
    started = started_ranks() or 1
    if started != job.world_size:
        raise InvalidInputError(
            f"world_size is {job.world_size}; allowed here: {started}, since so many ranks run"
        )


def _pass_graph(job: VerifyJob, example: Example, device: torch.device | None = None) -> ModelGraph:
    graph = _trace_pass(job, example.model, example.example_inputs, device)
    check_hash(job.schedule, graph)
    return graph


def _trace_pass(
    job: VerifyJob, model: nn.Module, inputs: ExampleInputs, device: torch.device | None
) -> ModelGraph:
    precisions = job.schedule.precision.units
    return trace_pass(model, inputs, job.units, device=device, precisions=precisions)


def _graph(job: VerifyJob, example: Example, device: torch.device | None = None) -> ModelGraph:
    graph = _trace_step(job, example, example.example_inputs, device)
    check_hash(job.schedule, graph)
    return graph


def _trace_step(
    job: VerifyJob, example: Example, inputs: ExampleInputs, device: torch.device | None
) -> ModelGraph:
    return trace(
        example.model,
        inputs,
        example.loss,
        job.units,
        device=device,
        tensor_degree=job.schedule.tensor.degree,
        precisions=job.schedule.precision.units,
    )


def _micro_batch_graph(
    job: VerifyJob, example: Example, whole: ModelGraph, device: torch.device
) -> ModelGraph:
    return _part_graph(
        job, example, whole, lambda inputs: _trace_step(job, example, inputs, device)
    )


def _part_graph(
    job: VerifyJob,
    example: Example,
    whole: ModelGraph,
    trace_part: Callable[[ExampleInputs], ModelGraph],
) -> ModelGraph:
    """The graph of one micro-batch."""
    count = job.schedule.pipeline.micro_batches
    if count == 1:
        return whole
    batch = batch_of(example.example_inputs)
    if batch % count:
        raise InvalidInputError(
            f"pipeline.micro_batches is {count}; allowed: divisors of the batch of {batch}"
        )
    return trace_part(with_batch(example.example_inputs, batch // count))
