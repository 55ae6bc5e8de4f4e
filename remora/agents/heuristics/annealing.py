"""Scheduler ``annealing``: random changes, slower ones accepted less and less often.

Source: Kirkpatrick, Gelatt, Vecchi, "Optimization by simulated annealing", Science 220, 1983.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from remora.agents.evaluation import Evaluator, Score, SearchEnded
from remora.agents.heuristics.greedy import greedy_search
from remora.agents.heuristics.moves import random_move
from remora.agents.heuristics.race import race
from remora.agents.heuristics.rank_greedy import contestants
from remora.agents.heuristics.seeded_search import SeededSearch
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.bounds import lower_bound_s

__all__ = ["RACE_SHARE", "Annealing", "anneal", "first_plans"]

_HOTTEST, _COLDEST = (1e-2, 3e-3, 1e-3), 3e-5
"""Relative growth of the step time that is accepted about every third time.

At the beginning of each round, and at their ends. The first round finds another basin where the
start is in a poor one, the last one the bottom of the best.
"""

_EXCESS_PRICES = 0.5, 5.0
"""Relative growth of the step time that a budget's worth of missing memory counts as, first, last.

Cheap at first, so that walks cross the border of the budget, behind which many better plans lie;
dear at the end, so that they end within it.
"""

_TWO_MOVES = 0.3
"""Share of proposals that make two changes at once, as an exchange of memory needs."""

RACE_SHARE = 0.5
"""Of the time, where several pipelines race for the place where the walk begins."""

_PATIENCE_PER_UNIT = 60
"""Proposals in a row that were all met before, relative to the units, before a round ends."""

_SAME_TIME = 1e-9


@dataclass(frozen=True)
class Annealing(SeededSearch):
    """Anneal from the greedy plan; on several ranks from the winner of a race of pipelines."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "annealing"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem)
        with suppress(SearchEnded):
            starts = first_plans(space, evaluator)
            stretch, rng = Stretch(evaluator, self.evaluations), Random(self.seed)
            if len(starts) > 1:
                race(space, evaluator, starts, stretch.part(RACE_SHARE), rng)
            if evaluator.best is not None:
                anneal(space, evaluator, evaluator.best, stretch, rng)
        return evaluator.answer(self.name)


def first_plans(space: Space, evaluator: Evaluator) -> list[Schedule]:
    """Where a walk may begin: the greedy plan of one device, or one of every pipeline.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if space.problem.world_size > 1:
        return contestants(space, evaluator)
    found = greedy_search(space, evaluator)
    return [] if found is None else [found]


def anneal(
    space: Space, evaluator: Evaluator, start: Schedule, stretch: Stretch, rng: Random
) -> None:
    """Walk while it gets colder, in rounds from the best so far; the evaluator remembers it.

    Schedules over the budget count as slower by what they lack, so the walk may pass them. It ends
    early where the lower bound is reached.

    Args:
        space: where to choose from.
        evaluator: scores and limits.
        start: where the walk begins.
        stretch: how long it takes; the temperature follows its progress.
        rng: source of all choices.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    for number, hottest in enumerate(_HOTTEST, start=1):
        part = stretch.part(number / len(_HOTTEST))
        _round(space, evaluator, evaluator.best or start, part, rng, hottest)


def _round(
    space: Space,
    evaluator: Evaluator,
    start: Schedule,
    stretch: Stretch,
    rng: Random,
    hottest: float,
) -> None:
    current, here = start, _place_of(space.problem, evaluator.score(start))
    goal = math.log(lower_bound_s(space.problem) * (1 + _SAME_TIME))
    patience = _PATIENCE_PER_UNIT * space.num_units
    known, repeated = evaluator.evaluations, 0
    while (here.missing > 0 or here.log_time > goal) and repeated < patience:
        progress = stretch.progress
        if progress >= 1:
            return
        repeated = repeated + 1 if evaluator.evaluations == known else 0
        known = evaluator.evaluations
        trial = random_move(space, current, rng)
        if rng.random() < _TWO_MOVES:
            trial = random_move(space, trial, rng)
        if trial is current:
            continue
        there = _place_of(space.problem, evaluator.score(trial))
        price = _between(*_EXCESS_PRICES, progress)
        growth = there.log_time - here.log_time + price * (there.missing - here.missing)
        if growth <= 0 or rng.random() < math.exp(-growth / _between(hottest, _COLDEST, progress)):
            current, here = trial, there


class _Place(NamedTuple):
    """Where a walk stands: logarithm of the step time, and missing memory over the budget."""

    log_time: float
    missing: float


def _place_of(problem: Problem, score: Score) -> _Place:
    missing = score.excess_bytes / problem.budget_bytes
    if not score.feasible and score.excess_bytes == 0:
        missing = 1.0  # the host's memory does not suffice
    return _Place(math.log(score.step_time_s), missing)


def _between(first: float, last: float, progress: float) -> float:
    """From first to last by equal factors."""
    return float(first * (last / first) ** progress)
