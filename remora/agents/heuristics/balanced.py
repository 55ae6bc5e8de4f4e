"""Scheduler ``balanced``: 1f1b with stages of equal seconds, each filled greedily."""

from __future__ import annotations

from contextlib import suppress

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.changes import Pricing
from remora.agents.heuristics.greedy_variants import fill_variants
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.space import Space
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Balanced"]


class Balanced:
    """Cut once by seconds, then fit every rank by itself; the cuts stay."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "balanced"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Fill and clean up; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem, shapes=())
        with suppress(SearchEnded):
            found = fill_variants(space, evaluator, space.keep_all, (Pricing(),))
            start = found[0] if found else find_fitting(space, evaluator)
            if start is not None:
                clean_up(space, evaluator, start)
        return evaluator.answer(self.name)
