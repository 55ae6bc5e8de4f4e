"""Scheduler ``random``: the best of a few random plans that fit, as a yardstick."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from random import Random

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.space import Space
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["RandomPlans", "random_plan"]


@dataclass(frozen=True)
class RandomPlans:
    """Draw plans that fit and return the fastest.

    Attributes:
        samples: plans to draw.
        seed: of the draws.
    """

    samples: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of samples."""
        if self.samples < 1:
            raise InvalidInputError(f"samples is {self.samples}; allowed: 1 or more")

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "random"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Draw; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem)
        rng = Random(self.seed)
        with suppress(SearchEnded):
            for _ in range(self.samples):
                if random_plan(space, evaluator, rng) is None:
                    break
        return evaluator.answer(self.name)


def random_plan(space: Space, evaluator: Evaluator, rng: Random) -> Schedule | None:
    """One random plan that fits the budget, None if there is none.

    Units in random order each get a random choice other than keep, as many of them as it takes
    to fit (found by bisection). Where all of them do not suffice: the schedule of least memory,
    with units put back to keep in random order as long as it fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    units = [unit for unit, menu in enumerate(space.menus) if len(menu) > 1]
    rng.shuffle(units)
    drawn = {unit: rng.choice(space.choices[unit][1:]) for unit in units}

    def first(count: int) -> Schedule:
        return space.with_choices(space.keep_all, {unit: drawn[unit] for unit in units[:count]})

    if not evaluator.score(first(len(units))).feasible:
        return _loosened(space, evaluator, units)
    low, high = -1, len(units)
    while high - low > 1:
        middle = (low + high) // 2
        if evaluator.score(first(middle)).feasible:
            high = middle
        else:
            low = middle
    return first(high)


def _loosened(space: Space, evaluator: Evaluator, units: list[int]) -> Schedule | None:
    current = find_fitting(space, evaluator)
    if current is None:
        return None
    for unit in units:
        trial = space.with_choices(current, {unit: space.choices[unit][0]})
        if evaluator.score(trial).feasible:
            current = trial
    return current
