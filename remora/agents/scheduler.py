"""The one face of everything that proposes schedules."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Scheduler"]


@runtime_checkable
class Scheduler(Protocol):
    """Proposes a schedule for a problem."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Return the best schedule found that fits the budget.

        Args:
            problem: what to plan.
            time_limit_s: wall-clock seconds after which the search stops and answers with the
                best schedule so far.

        Raises:
            InvalidInputError: the time limit is not positive.
            InfeasibleError: no schedule of this scheduler fits; carries the smallest budget that
                does and what takes the memory there.
            TimeLimitError: the limit passed before any schedule that fits was found.
        """
        ...
