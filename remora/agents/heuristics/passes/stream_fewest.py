"""Scheduler ``stream_fewest``: as little as possible waits on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.schedule.inference import Mode
from remora.schedule.pass_space import DISTANCES, PassSpace, Waiting, spread
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

    Pipelines that take longer than the best plan so far, whatever waits, are left out.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    found = []
    for pipeline in space.pipelines:
        if evaluator.best and space.least_s(pipeline) >= evaluator.best_s:
            break
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
    """Finds how much every rank has to move to the host."""

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
        self._ranks = [_RankItems(space, span, order) for span in pipeline.spans(space.num_units)]

    def run(self) -> Schedule | None:
        """Halve the levels between nothing and everything of each rank; None if nothing fits.

        What stands evenly apart at one level need not at the next, so a level may need more than
        the one before: from where the halving ends, ranks over the budget go on one by one.
        """
        low = [0] * len(self._ranks)
        high = [rank.most for rank in self._ranks]
        while low != high:
            middle = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
            over = self._over(middle)
            low = [
                m + 1 if o and a < b else a
                for a, b, m, o in zip(low, high, middle, over, strict=True)
            ]
            high = [b if o else m for b, m, o in zip(high, middle, over, strict=True)]
        while any(over := self._over(low)):
            if any(o and a >= rank.most for a, o, rank in zip(low, over, self._ranks, strict=True)):
                return None
            low = [a + 1 if o else a for a, o in zip(low, over, strict=True)]
        schedule = self._schedule(low)
        return schedule if self._evaluator.score(schedule).feasible else None

    def _over(self, levels: Sequence[int]) -> list[bool]:
        """Which ranks are over the budget."""
        score = self._evaluator.score(self._schedule(levels))
        return [peak > self._evaluator.problem.budget_bytes for peak in score.peaks_bytes]

    def _schedule(self, levels: Sequence[int]) -> Schedule:
        parts = [rank.items(level) for rank, level in zip(self._ranks, levels, strict=True)]
        items = [item for part in parts for item in part]
        waiting = Waiting(
            frozenset(unit for of_cache, unit in items if not of_cache),
            frozenset(unit for of_cache, unit in items if of_cache),
        )
        return self._space.build(self._pipeline, waiting, self._distance)


class _RankItems:
    """What one rank moves to the host at every level, from nothing to everything."""

    def __init__(self, space: PassSpace, span: tuple[int, int], order: Sequence[bool]) -> None:
        self._space = space
        self._order = order
        self._units = {
            of_cache: [unit for unit in space.movable(of_cache) if span[0] <= unit < span[1]]
            for of_cache in order
        }

    @property
    def most(self) -> int:
        """The level at which everything is on the host."""
        return sum(len(units) for units in self._units.values())

    def items(self, level: int) -> list[_Item]:
        """So many items, those of most bytes of the first kind before any of the second."""
        found: list[_Item] = []
        for of_cache in self._order:
            units = self._units[of_cache]
            count = min(level - len(found), len(units))
            found += [(of_cache, unit) for unit in self._largest(units, count, of_cache)]
        return found

    def _largest(self, units: Sequence[int], count: int, of_cache: bool) -> list[int]:
        """The units of most bytes; of those as large as the last one, some evenly apart."""
        if not count:
            return []
        sizes = self._space.sizes(of_cache)
        least = sorted((sizes[unit] for unit in units), reverse=True)[count - 1]
        larger = [unit for unit in units if sizes[unit] > least]
        equal = [unit for unit in units if sizes[unit] == least]
        return [*larger, *spread(equal, count - len(larger))]


def with_pace(schedule: Schedule, distance: int, window: int) -> Schedule:
    """The same schedule at another pace of copies."""
    memory = replace(schedule.memory, prefetch_distance=distance, offload_window=window)
    return replace(schedule, memory=memory)
