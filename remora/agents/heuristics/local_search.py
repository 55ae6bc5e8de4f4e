"""Scheduler ``local_search``: random changes from the greedy plan, the faster ones kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from random import Random

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.moves import random_move
from remora.agents.heuristics.rank_greedy import rank_greedy_search
from remora.agents.heuristics.seeded_search import SeededSearch
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.bounds import lower_bound_s

__all__ = ["LocalSearch", "improve"]

# Changes in a row that lead nowhere new before a walk ends, relative to the number of units.
_PATIENCE_PER_UNIT = 60

# How close to the lower bound a step time counts as equal to it.
_SAME_TIME = 1e-9


@dataclass(frozen=True)
class LocalSearch(SeededSearch):
    """Improve the greedy plan, on several ranks the rank-aware one, by changes that help."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "local_search"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem)
        with suppress(SearchEnded):
            start = rank_greedy_search(space, evaluator)
            if start is not None:
                stretch = Stretch(evaluator, self.evaluations)
                improve(space, evaluator, start, stretch, Random(self.seed))
        return evaluator.answer(self.name)


def improve(
    space: Space, evaluator: Evaluator, start: Schedule, stretch: Stretch, rng: Random
) -> Schedule:
    """Walk by random changes from ``start``, which fits, keeping every one that is not slower.

    Ends early where the lower bound is reached or nothing new turns up for long. Every third
    proposal makes two changes at once, because from a full budget a single change is often either
    too large or too slow.

    Args:
        space: where to choose from.
        evaluator: scores and limits.
        start: a feasible schedule.
        stretch: how long it takes at most.
        rng: source of all choices.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    current, score = start, evaluator.score(start)
    bound_s = lower_bound_s(space.problem) * (1 + _SAME_TIME)
    proposals = stale = 0
    patience = _PATIENCE_PER_UNIT * space.num_units
    while stretch.progress < 1 and stale < patience and score.step_time_s > bound_s:
        proposals += 1
        stale += 1
        trial = random_move(space, current, rng)
        if proposals % 3 == 0:
            trial = random_move(space, trial, rng)
        if trial is current:
            continue
        trial_score = evaluator.score(trial)
        if trial_score.feasible and not score.faster_than(trial_score):
            stale = 0 if trial_score.faster_than(score) else stale
            current, score = trial, trial_score
    return current
