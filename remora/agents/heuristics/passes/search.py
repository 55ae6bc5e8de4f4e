"""Scheduler ``pass_search``: local search over everything that a pass decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.passes.stream_fewest import fewest_plans, with_pace
from remora.agents.heuristics.seeded_search import SeededSearch
from remora.agents.heuristics.stretch import Stretch
from remora.schedule.inference import Mode
from remora.schedule.pass_space import PassSpace, Waiting, state_of, waiting_of
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["PassSearch", "climb"]

_BATCH = 16
"""Neighbours that are simulated in one call."""

_MOST_PACE = 6
_NUM_STARTS = 4


@dataclass(frozen=True)
class PassSearch(SeededSearch):
    """Starts from the best plans of ``stream_fewest`` and takes every change that is faster.

    Changes: one unit's weights or cache to the other side, two units in exchange, another pace of
    copies, a border between stages moved by one unit, alone or with one unit's weights.
    """

    modes: ClassVar = (Mode.INFERENCE,)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "pass_search"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s, modes=self.modes)
        space = PassSpace(problem)
        with suppress(SearchEnded):
            plans = fewest_plans(space, evaluator)
            stretch = Stretch(evaluator, self.evaluations)
            climb(space, evaluator, plans, stretch, Random(self.seed))
        return evaluator.answer(self.name)


def climb(
    space: PassSpace,
    evaluator: Evaluator,
    plans: Sequence[Schedule],
    stretch: Stretch,
    rng: Random,
) -> None:
    """Improve the best of some plans, one after the other.

    Args:
        space: of the problem.
        evaluator: simulates; remembers the best.
        plans: that fit.
        stretch: ends the search.
        rng: order of the neighbours.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    for start in _leaders(evaluator, plans):
        current: Schedule | None = start
        while current is not None and stretch.progress < 1:
            current = _better(space, evaluator, current, stretch, rng)


def _leaders(evaluator: Evaluator, plans: Sequence[Schedule]) -> list[Schedule]:
    """The best few plans, and the best of every number of ranks and micro-batches, best first."""
    ordered = sorted(dict.fromkeys(plans), key=lambda plan: evaluator.score(plan).step_time_s)
    firsts: dict[tuple[int, int], Schedule] = {}
    for plan in ordered:
        pipeline = plan.pipeline
        firsts.setdefault((pipeline.num_ranks, pipeline.micro_batches), plan)
    chosen = {*ordered[:_NUM_STARTS], *list(firsts.values())[:_NUM_STARTS]}
    return [plan for plan in ordered if plan in chosen]


def _better(
    space: PassSpace, evaluator: Evaluator, current: Schedule, stretch: Stretch, rng: Random
) -> Schedule | None:
    """The first faster neighbour in a random order; None at a local optimum."""
    neighbours = list(_neighbours(space, current))
    rng.shuffle(neighbours)
    best = evaluator.score(current)
    for first in range(0, len(neighbours), _BATCH):
        if stretch.progress >= 1:
            return None
        batch = neighbours[first : first + _BATCH]
        scores = evaluator.score_all(batch)
        fitting = [
            (score, plan) for score, plan in zip(scores, batch, strict=True) if score.feasible
        ]
        for score, plan in sorted(fitting, key=lambda pair: pair[0].step_time_s):
            if score.faster_than(best):
                return plan
    return None


def _neighbours(space: PassSpace, schedule: Schedule) -> Iterator[Schedule]:
    waiting = waiting_of(schedule)
    for changed in _other_waiting(space, waiting):
        yield replace(schedule, state=state_of(changed))
    memory = schedule.memory
    distance, window = memory.prefetch_distance, memory.offload_window
    for step in (-1, 1):
        if waiting.weights | waiting.caches and 1 <= distance + step <= _MOST_PACE:
            yield with_pace(schedule, distance + step, window)
        if waiting.caches and 1 <= window + step <= _MOST_PACE:
            yield with_pace(schedule, distance, window + step)
    for moved in _other_cuts(space, schedule):
        yield moved
        for unit in space.streamable:
            yield replace(moved, state=state_of(waiting.flipped(unit, of_cache=False)))


def _other_waiting(space: PassSpace, waiting: Waiting) -> Iterator[Waiting]:
    for of_cache, units in ((False, space.streamable), (True, space.caching)):
        away = waiting.caches if of_cache else waiting.weights
        for unit in units:
            yield waiting.flipped(unit, of_cache)
        for one in sorted(away):
            for other in units:
                if other not in away:
                    yield waiting.flipped(one, of_cache).flipped(other, of_cache)


def _other_cuts(space: PassSpace, schedule: Schedule) -> Iterator[Schedule]:
    cuts = schedule.pipeline.cuts
    borders = (0, *cuts, space.num_units)
    for place, cut in enumerate(cuts, start=1):
        for moved in (cut - 1, cut + 1):
            if borders[place - 1] < moved < borders[place + 1]:
                changed = (*cuts[: place - 1], moved, *cuts[place:])
                yield replace(schedule, pipeline=replace(schedule.pipeline, cuts=changed))
