"""Random valid schedules that use the whole language, and problems that allow all of it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph, Unit
from remora.hardware.hardware import Hardware, Link
from remora.schedule.orders import allowed_chunks, check_pipeline, model_copies, registered_kinds
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import (
    Action,
    Group,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    Placement,
    PrecisionPlan,
    Schedule,
    StatePlan,
    TensorPlan,
    UnitOption,
)
from tests.pipelines import gpu_hardware
from tests.problems import table
from tests.schedule.plans import random_groups

MICRO_BATCHES = (1, 2, 3, 4, 6, 8)
_MOST_CHUNKS = 3


def full_problem(
    graph: ModelGraph,
    world_size: int = 4,
    optimizer: str = "adamw",
    hardware: Hardware | None = None,
    micro_batches: tuple[int, ...] = MICRO_BATCHES,
) -> Problem:
    """A problem in which every kind, placement and action is allowed.

    Every micro-batch has the size of the graph's batch: what the schedule does is what matters.
    """
    costs = dataclasses.replace(
        table(graph), host_optimizer_time_s=1e-3, recorded_op_overhead_s=1e-8
    )
    links = gpu_hardware(2, Link(4e9, 2e-6), Link(1e9, 5e-6))
    return Problem(
        graphs=dict.fromkeys({1, *micro_batches}, graph),
        costs=dict.fromkeys({1, *micro_batches}, costs),
        hardware=hardware or links,
        optimizer=OPTIMIZERS[optimizer],
        budget_bytes=2**40,
        world_size=world_size,
        allow_lossy=True,
    )


def random_full_schedule(problem: Problem, seed: int, kind: PipelineKind | None = None) -> Schedule:
    """Draw a valid schedule of ``problem``: pipeline, options, groups, paces and state.

    Args:
        problem: any.
        seed: of the draw.
        kind: of the pipeline; drawn among those that fit if not given.
    """
    rng = random.Random(seed)
    pipeline = _random_pipeline(rng, problem, kind)
    memory = _random_memory(rng, problem, pipeline)
    replicas = problem.num_groups // pipeline.num_ranks
    state = _random_state(rng, problem, replicas)
    tensor = TensorPlan(problem.tensor_degree)
    precision = PrecisionPlan(problem.graph.precisions)
    return Schedule(problem.graph.content_hash, memory, pipeline, state, tensor, precision)


def fitting_pipelines(problem: Problem) -> dict[PipelineKind, list[tuple[int, int, int]]]:
    """(ranks, micro-batches, chunks) that a problem allows, by kind; kinds without any left out."""
    found: dict[PipelineKind, list[tuple[int, int, int]]] = {}
    for kind in registered_kinds():
        for case in _cases(problem, kind):
            found.setdefault(kind, []).append(case)
    return found


def _cases(problem: Problem, kind: PipelineKind) -> Iterator[tuple[int, int, int]]:
    units = problem.graph.units
    if model_copies(kind) > 1 and any(unit.mutated_buffers for unit in units):
        return
    fixed = problem.micro_batches
    counts = sorted(problem.graphs) if fixed is None else [fixed]
    for ranks in sorted(problem.pipeline_sizes):
        if (kind is PipelineKind.NONE) != (ranks == 1):
            continue
        for chunks in range(1, _MOST_CHUNKS + 1):
            if chunks not in allowed_chunks(kind) or ranks * chunks > len(units):
                continue
            for count in counts:
                try:
                    check_pipeline(kind, ranks, count, chunks)
                except InvalidInputError:
                    continue
                yield ranks, count, chunks


def _random_pipeline(
    rng: random.Random, problem: Problem, kind: PipelineKind | None
) -> PipelinePlan:
    fitting = fitting_pipelines(problem)
    kind = kind or rng.choice(list(fitting))
    ranks, count, chunks = rng.choice(fitting[kind])
    cuts = rng.sample(range(1, len(problem.graph.units)), ranks * chunks - 1)
    return PipelinePlan(kind, tuple(sorted(cuts)), chunks, count)


def _random_memory(rng: random.Random, problem: Problem, pipeline: PipelinePlan) -> MemoryPlan:
    units = problem.graph.units
    offload = problem.hardware.can_offload
    groups: list[Group] = []
    for start, end in pipeline.spans(len(units)):
        for first, last in _free_spans(units[start:end]):
            if rng.random() < 0.5:
                groups += random_groups(rng, first, last, 0, offload)
    grouped = {index for group in groups for index in range(group.start, group.end)}
    options = tuple(_random_option(rng, problem, unit, unit.index in grouped) for unit in units)
    paces: tuple[tuple[int, int], ...] = ()
    if rng.random() < 0.5:
        paces = tuple((rng.randint(1, 5), rng.randint(1, 4)) for _ in range(pipeline.num_stages))
    return MemoryPlan(options, tuple(groups), rng.randint(1, 5), rng.randint(1, 4), paces)


def _free_spans(units: tuple[Unit, ...]) -> Iterator[tuple[int, int]]:
    start: int | None = None
    for unit in units:
        if unit.fixed_reason:
            if start is not None:
                yield start, unit.index
            start = None
        elif start is None:
            start = unit.index
    if start is not None:
        yield start, units[-1].index + 1


def _random_option(rng: random.Random, problem: Problem, unit: Unit, grouped: bool) -> UnitOption:
    """One action for all saved tensors, or each its own."""
    whole = [Action.KEEP] if unit.fixed_reason else [Action.KEEP, Action.RECOMPUTE]
    actions = list(whole)
    if not unit.fixed_reason and not grouped:
        actions += [Action.OFFLOAD] if problem.hardware.can_offload else []
        actions += [Action.COMPRESS] if problem.allow_lossy else []
    mixed = len(actions) > len(whole) and rng.random() < 0.6
    one = rng.choice(actions)
    return UnitOption(
        tuple((saved.name, rng.choice(actions) if mixed else one) for saved in unit.saved)
    )


def _random_state(rng: random.Random, problem: Problem, replicas: int) -> StatePlan:
    spec = problem.optimizer
    places = [Placement.DEVICE]
    if spec.counted and problem.hardware.can_offload:
        places.append(Placement.HOST)
    if spec.counted and spec.state_per_parameter and not spec.master_weights:
        places.append(Placement.EIGHT_BIT)
    optimizer = rng.choice(places)
    zero_stage = rng.randint(0, 3) if replicas > 1 else 0
    gradients, streamed = Placement.DEVICE, ()
    if optimizer is Placement.HOST:
        gradients = rng.choice([Placement.DEVICE, Placement.HOST])
        if zero_stage <= 1 and rng.random() < 0.6:
            streamed = _random_streamed(rng, problem)
    weights = Placement.HOST if streamed else Placement.DEVICE
    return StatePlan(weights, gradients, optimizer, zero_stage, streamed)


def _random_streamed(rng: random.Random, problem: Problem) -> tuple[int, ...]:
    statics = problem.chain.statics
    loaded = [unit.index for unit in problem.graph.units if statics.weights_of((unit.index,))]
    share = rng.choice([0.3, 0.7, 1.0])
    return tuple(index for index in loaded if rng.random() < share)
