"""Rules of the pipeline part of a schedule."""

from __future__ import annotations

from remora.errors import InvalidInputError
from remora.hardware.hardware import Hardware, Link
from remora.schedule.orders import allowed_chunks, check_pipeline, model_copies
from remora.schedule.problem import Problem
from remora.schedule.schedule import MemoryPlan, PipelineKind, PipelinePlan, Schedule

__all__ = ["check_pipeline_plan"]


def check_pipeline_plan(problem: Problem, schedule: Schedule) -> None:
    """Check cuts, chunks, micro-batches, ranks and links.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    pipeline = schedule.pipeline
    _check_micro_batches(problem, pipeline)
    _check_cuts(pipeline, len(problem.graph.units))
    _check_ranks(problem, pipeline)
    check_pipeline(pipeline.kind, pipeline.num_ranks, pipeline.micro_batches, pipeline.chunks)
    _check_memory(schedule.memory, pipeline)
    _check_links(problem.hardware, problem.world_size)
    _check_statistics(problem, pipeline)


def _check_micro_batches(problem: Problem, pipeline: PipelinePlan) -> None:
    allowed = sorted(problem.graphs)
    if problem.micro_batches is not None:
        allowed = [problem.micro_batches]
    if pipeline.micro_batches not in allowed:
        why = ", fixed by the problem" if problem.micro_batches is not None else ""
        raise InvalidInputError(
            f"pipeline.micro_batches is {pipeline.micro_batches}, which does not divide the batch "
            f"or is not part of the problem; allowed: {', '.join(map(str, allowed))}{why}"
        )


def _check_cuts(pipeline: PipelinePlan, num_units: int) -> None:
    borders = (0, *pipeline.cuts, num_units)
    for stage, (start, end) in enumerate(pipeline.spans(num_units)):
        if not 0 <= start < end <= num_units:
            fault = "empty" if start >= end else "outside of the model"
            raise InvalidInputError(
                f"pipeline.cuts is {list(pipeline.cuts)}, which leaves stage {stage} "
                f"[{start}, {end}) {fault}; allowed: ascending indices from 1 to {num_units - 1}"
            )
    if pipeline.chunks < 1 or len(borders) - 1 < pipeline.chunks:
        raise InvalidInputError(
            f"pipeline.chunks is {pipeline.chunks} with {pipeline.num_stages} stages of "
            f"{num_units} units; allowed: 1 to {pipeline.num_stages}"
        )


def _check_ranks(problem: Problem, pipeline: PipelinePlan) -> None:
    kind = pipeline.kind.value
    if pipeline.kind is PipelineKind.NONE and pipeline.cuts:
        raise InvalidInputError(
            f"pipeline.cuts is {list(pipeline.cuts)} with pipeline.kind='none'; allowed: no cuts"
        )
    if pipeline.chunks not in allowed_chunks(pipeline.kind):
        check_pipeline(pipeline.kind, 1, 1, pipeline.chunks)
    if pipeline.num_stages % pipeline.chunks:
        raise InvalidInputError(
            f"pipeline.cuts makes {pipeline.num_stages} stages, which pipeline.chunks="
            f"{pipeline.chunks} does not divide; allowed: a multiple of the chunks"
        )
    if pipeline.kind is not PipelineKind.NONE and pipeline.num_ranks < 2:
        raise InvalidInputError(
            f"pipeline.kind is {kind!r} on {pipeline.num_ranks} rank; allowed: 2 ranks or more, "
            "or pipeline.kind='none'"
        )
    if problem.num_groups % pipeline.num_ranks:
        degree = problem.tensor_degree
        product = f"world_size={problem.world_size}" + (
            f" by tensor.degree={degree}" if degree > 1 else ""
        )
        raise InvalidInputError(
            f"pipeline.cuts makes a pipeline of {pipeline.num_ranks} ranks, which does not divide "
            f"{product}; allowed: its divisors"
        )
    if pipeline.num_ranks not in problem.pipeline_sizes:
        raise InvalidInputError(
            f"pipeline.cuts makes a pipeline of {pipeline.num_ranks} ranks with "
            f"world_size={problem.world_size}, tensor.degree={problem.tensor_degree} and "
            f"replicas={problem.replicas}; allowed: {problem.pipeline_sizes[0]}, since ranks of "
            "a pipeline x degree x replicas = world size"
        )


def _check_memory(memory: MemoryPlan, pipeline: PipelinePlan) -> None:
    if memory.paces and len(memory.paces) != pipeline.num_stages:
        raise InvalidInputError(
            f"memory.paces has {len(memory.paces)} entries; allowed: none, or "
            f"{pipeline.num_stages}, one per stage"
        )
    for group in memory.groups:
        for cut in pipeline.cuts:
            if group.start < cut < group.end:
                raise InvalidInputError(
                    f"memory.groups: [{group.start}, {group.end}) crosses the cut at {cut}; "
                    "allowed: groups inside one stage"
                )


def _check_links(hardware: Hardware, world_size: int) -> None:
    """Every link that a schedule of several ranks may use must carry something."""
    if world_size == 1:
        return
    if hardware.state is not None and not hardware.state.link_share > 0:
        raise InvalidInputError(
            f"hardware.state.link_share is {hardware.state.link_share:g} and world_size is above "
            "1; allowed: a number above 0"
        )
    _check_link("link", hardware.link)
    if world_size > hardware.devices_per_node:
        _check_link("node_link", hardware.node_link)


def _check_link(field: str, link: Link) -> None:
    if not link.bandwidth_bytes_per_s > 0:
        raise InvalidInputError(
            f"hardware.{field}.bandwidth_bytes_per_s is {link.bandwidth_bytes_per_s:g} and "
            "world_size is above 1; allowed: a number above 0"
        )


def _check_statistics(problem: Problem, pipeline: PipelinePlan) -> None:
    """Copies of a model that see different micro-batches keep different running statistics."""
    if model_copies(pipeline.kind) == 1:
        return
    for unit in problem.graph.units:
        if unit.mutated_buffers:
            raise InvalidInputError(
                f"pipeline.kind is {pipeline.kind.value!r}, whose copies of the model see "
                f"different micro-batches, and unit {unit.name!r} keeps running statistics "
                f"({unit.mutated_buffers[0]}); allowed: kinds with one copy"
            )
