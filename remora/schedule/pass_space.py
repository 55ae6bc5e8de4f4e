"""What schedules of inference may choose: a pipeline, what waits on the host, and the pace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from remora.schedule.cuts import balanced_cuts
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Placement, Schedule, StatePlan

__all__ = ["DISTANCES", "PassSpace", "Waiting"]

DISTANCES = (1, 2, 4)
"""How many units ahead weights are asked for."""

_LEAST_WINDOW = 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits on the host between its uses.

    Attributes:
        weights: units whose weights do.
        caches: units whose keys and values do.
    """

    weights: frozenset[int] = frozenset()
    caches: frozenset[int] = frozenset()

    def flipped(self, unit: int, of_cache: bool) -> Waiting:
        """The same with one unit on the other side."""
        if of_cache:
            return Waiting(self.weights, self.caches ^ {unit})
        return Waiting(self.weights ^ {unit}, self.caches)


class PassSpace:
    """Schedules of one problem of inference.

    Args:
        problem: of inference.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._keep = keep_all_schedule(problem.graph)
        self._seconds: dict[int, list[float]] = {}

    @cached_property
    def streamable(self) -> tuple[int, ...]:
        """Units with weights; none if nothing can wait on the host."""
        if not self._can_wait:
            return ()
        statics = self.problem.chain.statics
        return tuple(u for u in range(self.num_units) if statics.weights_of((u,)))

    @cached_property
    def caching(self) -> tuple[int, ...]:
        """Units with a cache; none if nothing can wait on the host."""
        spec = self.problem.inference
        if spec is None or not self._can_wait:
            return ()
        return tuple(u for u in range(self.num_units) if spec.cache_of(u, 1).held)

    @property
    def num_units(self) -> int:
        """Units of the model."""
        return len(self.problem.graph.units)

    @property
    def everything(self) -> Waiting:
        """All weights and caches on the host."""
        return Waiting(frozenset(self.streamable), frozenset(self.caching))

    @cached_property
    def pipelines(self) -> tuple[PipelinePlan, ...]:
        """Balanced pipelines of every number of ranks and micro-batches, least seconds first."""
        problem = self.problem
        counts = (
            sorted(problem.graphs) if problem.micro_batches is None else [problem.micro_batches]
        )
        sizes = sorted(ranks for ranks in problem.pipeline_sizes if ranks <= self.num_units)
        found = [self.balanced(ranks, count) for ranks, count in product(sizes, counts)]
        return tuple(sorted(found, key=self.least_s))

    def least_s(self, pipeline: PipelinePlan) -> float:
        """Seconds that no pass of a pipeline goes below.

        One micro-batch takes one stage after the other, and the slowest stage runs all others too.
        """
        seconds = self._unit_seconds(pipeline.micro_batches)
        spans = pipeline.spans(self.num_units)
        stages = [math.fsum(seconds[start:end]) for start, end in spans]
        return math.fsum(stages) + (pipeline.micro_batches - 1) * max(stages)

    def balanced(self, ranks: int, count: int) -> PipelinePlan:
        """The pipeline whose stages take much the same time."""
        if ranks == 1:
            return PipelinePlan(micro_batches=count)
        cuts = balanced_cuts(self._unit_seconds(count), ranks)
        return PipelinePlan(PipelineKind.GPIPE, cuts, 1, count)

    def _unit_seconds(self, count: int) -> list[float]:
        """Seconds of every unit's forward, without the tables that a simulation makes."""
        if count not in self._seconds:
            times = self.problem.costs[count].op_time_s
            units = self.problem.graphs[count].units
            self._seconds[count] = [math.fsum(times[slice(*unit.forward)]) for unit in units]
        return self._seconds[count]

    def build(
        self,
        pipeline: PipelinePlan,
        waiting: Waiting,
        distance: int = 1,
        window: int = _LEAST_WINDOW,
    ) -> Schedule:
        """Put a schedule together."""
        memory = replace(self._keep.memory, prefetch_distance=distance, offload_window=window)
        return replace(self._keep, memory=memory, pipeline=pipeline, state=state_of(waiting))

    def movable(self, of_cache: bool) -> tuple[int, ...]:
        """Units whose caches, or else weights, may wait on the host."""
        return self.caching if of_cache else self.streamable

    def sizes(self, of_cache: bool) -> Mapping[int, int]:
        """Bytes of the caches, or else weights, of these units."""
        return self._cache_sizes if of_cache else self._weight_sizes

    @cached_property
    def _cache_sizes(self) -> Mapping[int, int]:
        spec = self.problem.inference
        assert spec is not None
        return {unit: spec.cache_of(unit, 1).held for unit in self.caching}

    @cached_property
    def _weight_sizes(self) -> Mapping[int, int]:
        statics = self.problem.chain.statics
        return {
            unit: sum(entry.num_bytes for entry in statics.weights_of((unit,)))
            for unit in self.streamable
        }

    @property
    def _can_wait(self) -> bool:
        problem = self.problem
        ends = (problem.cost, problem.hardware.host)
        rates = [rate for end in ends for rate in (end.h2d_bytes_per_s, end.d2h_bytes_per_s)]
        movable = problem.hardware.can_offload and not problem.state_on_device
        return movable and all(rate > 0 for rate in rates)


def state_of(waiting: Waiting) -> StatePlan:
    """The state plan under which these wait on the host."""
    return StatePlan(
        weights=Placement.HOST if waiting.weights else Placement.DEVICE,
        streamed_units=tuple(sorted(waiting.weights)),
        host_caches=tuple(sorted(waiting.caches)),
    )


def waiting_of(schedule: Schedule) -> Waiting:
    """What a schedule leaves on the host."""
    state = schedule.state
    return Waiting(frozenset(state.streamed_units), frozenset(state.host_caches))


def spread(units: Sequence[int], count: int) -> list[int]:
    """So many of some units, as evenly apart as they come."""
    return [units[(2 * k + 1) * len(units) // (2 * count)] for k in range(count)]
