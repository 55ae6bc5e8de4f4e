"""Scheduler ``floor``: the least memory that recomputation alone reaches."""

from __future__ import annotations

from remora.agents.fixed_plan import FixedPlan
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.floor import floor_schedule

__all__ = ["Floor"]


class Floor(FixedPlan):
    """The cheapest-memory completion of the simulator; it defines ``memory=range:0``."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "floor"

    def plan(self, problem: Problem) -> Schedule:
        """The schedule of least peak by recomputation."""
        return floor_schedule(problem)
