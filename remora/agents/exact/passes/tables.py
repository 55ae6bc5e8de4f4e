"""What a pass of one pipeline costs, read once from the simulator, for the integer program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from remora.schedule.inference import UnitCache
from remora.schedule.layout import Layout
from remora.schedule.pass_space import PassSpace, Waiting
from remora.schedule.program import InstructionKind
from remora.schedule.schedule import PipelinePlan
from remora.simulator.simulate import simulate

__all__ = ["Message", "PassTables", "Place", "RankTable", "Weight", "pass_tables"]


@dataclass(frozen=True, slots=True)
class Place:
    """One unit of one micro-batch on a rank, in the order in which the rank runs them.

    Attributes:
        unit, micro_batch: which.
        compute_s: seconds of its forward.
        local_bytes: peak while it runs, without weights and caches.
    """

    unit: int
    micro_batch: int
    compute_s: float
    local_bytes: int


@dataclass(frozen=True, slots=True)
class Weight:
    """Weights that are read by the same units.

    Attributes:
        units: that read them; streamed only if all of these are.
        num_bytes: of all of them.
    """

    units: frozenset[int]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Message:
    """What one stage sends another after every micro-batch.

    Attributes:
        target: rank.
        duration_s: seconds.
    """

    target: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class RankTable:
    """One rank of a pipeline.

    Attributes:
        units: of its stage, ascending.
        places: everything it runs.
        weights: that its units read; what cannot wait on the host is in ``fixed_bytes``.
        fixed_bytes: weights that cannot.
        messages: to later ranks, in order.
    """

    units: tuple[int, ...]
    places: tuple[Place, ...]
    weights: tuple[Weight, ...]
    fixed_bytes: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class PassTables:
    """A pipeline of one problem.

    Attributes:
        pipeline: the pipeline.
        ranks: its ranks.
        streamable: units whose weights may wait on the host.
        caches: of one micro-batch, by unit that may keep it on the host.
        latency_s, d2h_bytes_per_s, h2d_bytes_per_s: of one rank's host copies.
        overlap: copies have streams of their own.
    """

    pipeline: PipelinePlan
    ranks: tuple[RankTable, ...]
    streamable: frozenset[int]
    caches: Mapping[int, UnitCache]
    latency_s: float
    d2h_bytes_per_s: float
    h2d_bytes_per_s: float
    overlap: bool


def pass_tables(space: PassSpace, pipeline: PipelinePlan) -> PassTables:
    """Read what a pipeline of a problem of inference costs.

    Args:
        space: of the problem.
        pipeline: valid for it.
    """
    problem, spec = space.problem, space.problem.inference
    assert spec is not None
    schedule = space.build(pipeline, Waiting())
    layout = Layout(problem, schedule)
    rates = layout.host_rates
    count = pipeline.micro_batches
    return PassTables(
        pipeline=pipeline,
        ranks=_ranks(space, layout),
        streamable=frozenset(space.streamable),
        caches={unit: spec.cache_of(unit, count) for unit in space.caching},
        latency_s=rates.latency_s,
        d2h_bytes_per_s=rates.d2h_bytes_per_s,
        h2d_bytes_per_s=rates.h2d_bytes_per_s,
        overlap=problem.hardware.copies_overlap,
    )


def _ranks(space: PassSpace, layout: Layout) -> tuple[RankTable, ...]:
    timeline = simulate(space.problem, layout.schedule)
    places: list[list[Place]] = [[] for _ in range(layout.num_ranks)]
    held = [
        layout.state_of(rank).weights_bytes + layout.cache_bytes(rank, on_host=False)
        for rank in range(layout.num_ranks)
    ]
    peaks: dict[int, int] = {}
    for samples in timeline.memory:
        for sample in samples:
            peaks[sample.instruction] = max(peaks.get(sample.instruction, 0), sample.level_bytes)
    for index, event in enumerate(timeline.events):
        one = event.instruction
        if one.kind is InstructionKind.FORWARD:
            local = peaks[index] - held[one.rank]
            places[one.rank].append(Place(one.unit, one.micro_batch, one.duration_s, local))
    return tuple(
        _rank(space, layout, rank, tuple(places[rank])) for rank in range(layout.num_ranks)
    )


def _rank(space: PassSpace, layout: Layout, rank: int, places: tuple[Place, ...]) -> RankTable:
    stage = layout.stage(rank)
    units = tuple(unit.index for unit in stage.units)
    streamable = frozenset(space.streamable)
    groups: dict[frozenset[int], int] = {}
    fixed = layout.state_of(rank).weights_bytes
    for entry in layout.chain.statics.weights_of(units):
        if entry.units <= streamable:
            groups[entry.units] = groups.get(entry.units, 0) + entry.num_bytes
            fixed -= entry.num_bytes
    messages = tuple(
        Message(layout.rank_of(target), layout.links.message_s(rank, layout.rank_of(target), size))
        for target, size in layout.targets(rank, False).items()
    )
    weights = tuple(Weight(readers, size) for readers, size in groups.items())
    return RankTable(units, places, weights, fixed, messages)
