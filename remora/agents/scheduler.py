"""The one face of everything that proposes schedules."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Scheduler", "TellsOrigin", "proposed"]


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


@runtime_checkable
class TellsOrigin(Protocol):
    """A scheduler that may have to begin from another one's plans, and says so."""

    def propose_with_origin(self, problem: Problem, time_limit_s: float) -> tuple[Schedule, str]:
        """As :meth:`Scheduler.propose`, and whose plans it began from; empty for its own."""
        ...


def proposed(scheduler: Scheduler, problem: Problem, time_limit_s: float) -> tuple[Schedule, str]:
    """The answer of a scheduler, and whose plans it began from where not from its own.

    Raises:
        InvalidInputError, InfeasibleError, TimeLimitError: as every scheduler.
    """
    if isinstance(scheduler, TellsOrigin):
        return scheduler.propose_with_origin(problem, time_limit_s)
    return scheduler.propose(problem, time_limit_s), ""
