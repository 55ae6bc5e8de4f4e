"""Schedulers that know one schedule per problem and only check whether it fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

from remora.agents.evaluation import (
    TRAINING,
    check_mode,
    check_time_limit,
    infeasible,
    score_of,
)
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["FixedPlan"]


class FixedPlan(ABC):
    """A scheduler whose plan does not depend on the budget.

    Attributes:
        modes: what it plans.
    """

    modes: ClassVar[Collection[Mode]] = TRAINING

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in the registry."""

    @abstractmethod
    def plan(self, problem: Problem) -> Schedule:
        """The schedule, whether it fits the budget or not."""

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Return the plan if it fits; see :class:`remora.agents.scheduler.Scheduler`."""
        check_time_limit(time_limit_s)
        check_mode(problem, self.modes, self.name)
        schedule = self.plan(problem)
        score = score_of(problem, schedule)
        if not score.feasible:
            raise infeasible(self.name, problem, schedule)
        return schedule
