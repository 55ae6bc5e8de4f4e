"""Scheduler ``stream_fewest``: as little as possible waits on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.passes.space import DISTANCES, PassSpace, Waiting, spread
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, Schedule

__all__ = ["StreamFewest", "fewest_plans", "least_plans"]


class StreamFewest:
    """For every pipeline with balanced stages, the fewest units that make each rank fit.

    Of equal units those are taken that stand evenly apart, so that each copy has several units
    of computation to hide behind. Caches go first where a pass has less to move for them than for
    weights, and after the weights too.
    """

    modes: ClassVar = (Mode.INFERENCE,)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "stream_fewest"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s, modes=self.modes)
        with suppress(SearchEnded):
            fewest_plans(PassSpace(problem), evaluator)
        return evaluator.answer(self.name)


def fewest_plans(space: PassSpace, evaluator: Evaluator) -> list[Schedule]:
    """The fewest units of every pipeline that fit, for every distance.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    found = []
    for pipeline in space.pipelines:
        for distance in DISTANCES:
            for order in _orders(space):
                plan = _Filling(space, evaluator, pipeline, distance, order).run()
                found += [] if plan is None else [plan]
    if not found:
        evaluator.score_all(list(least_plans(space)))
    return found


def least_plans(space: PassSpace) -> Iterator[Schedule]:
    """Plans of least memory of every pipeline."""
    for pipeline in space.pipelines:
        yield space.build(pipeline, space.everything)


_Item = tuple[bool, int]
"""Whether it is a cache, and its unit."""


def _orders(space: PassSpace) -> list[tuple[bool, ...]]:
    """Which of weights and caches go first."""
    kinds = (space.streamable, space.caching)
    if not all(kinds):
        return [tuple(of_cache for of_cache in (False, True) if kinds[of_cache])]
    return [(True, False), (False, True)]


class _Filling:
    """Moves more and more to the host until every rank fits."""

    def __init__(
        self,
        space: PassSpace,
        evaluator: Evaluator,
        pipeline: PipelinePlan,
        distance: int,
        order: Sequence[bool],
    ) -> None:
        self._space = space
        self._evaluator = evaluator
        self._pipeline = pipeline
        self._distance = distance
        self._spans = pipeline.spans(space.num_units)
        self._levels = [list(self._levels_of(span, order)) for span in self._spans]

    def run(self) -> Schedule | None:
        """Raise the level of every rank that is over the budget; None if the last is not enough."""
        chosen = [0] * len(self._spans)
        budget = self._evaluator.problem.budget_bytes
        while True:
            schedule = self._schedule(chosen)
            score = self._evaluator.score(schedule)
            over = [rank for rank, peak in enumerate(score.peaks_bytes) if peak > budget]
            if not over:
                return schedule if score.feasible else None
            if any(chosen[rank] + 1 >= len(self._levels[rank]) for rank in over):
                return None
            for rank in over:
                chosen[rank] += 1

    def _schedule(self, chosen: Sequence[int]) -> Schedule:
        parts = [levels[level] for levels, level in zip(self._levels, chosen, strict=True)]
        items = [item for part in parts for item in part]
        waiting = Waiting(
            frozenset(unit for of_cache, unit in items if not of_cache),
            frozenset(unit for of_cache, unit in items if of_cache),
        )
        return self._space.build(self._pipeline, waiting, self._distance)

    def _levels_of(
        self, span: tuple[int, int], order: Sequence[bool]
    ) -> Iterator[tuple[_Item, ...]]:
        """Nothing, then one item after the other, those of most bytes first."""
        yield ()
        before: tuple[_Item, ...] = ()
        for of_cache in order:
            units = self._space.caching if of_cache else self._space.streamable
            inside = [unit for unit in units if span[0] <= unit < span[1]]
            for count in range(1, len(inside) + 1):
                yield (*before, *((of_cache, u) for u in self._largest(inside, count, of_cache)))
            before = (*before, *((of_cache, unit) for unit in inside))

    def _largest(self, units: Sequence[int], count: int, of_cache: bool) -> list[int]:
        """The units of most bytes; of those as large as the last one, some evenly apart."""
        sizes = {unit: self._size(unit, of_cache) for unit in units}
        ordered = sorted(units, key=lambda unit: -sizes[unit])
        least = sizes[ordered[count - 1]]
        larger = [unit for unit in units if sizes[unit] > least]
        equal = [unit for unit in units if sizes[unit] == least]
        return [*larger, *spread(equal, count - len(larger))]

    def _size(self, unit: int, of_cache: bool) -> int:
        spec = self._space.problem.inference
        assert spec is not None
        return spec.cache_of(unit, 1).held if of_cache else self._space.weights_bytes((unit,))


def with_pace(schedule: Schedule, distance: int, window: int) -> Schedule:
    """The same schedule at another pace of copies."""
    memory = replace(schedule.memory, prefetch_distance=distance, offload_window=window)
    return replace(schedule, memory=memory)
