"""Scheduler ``offload_all``: move what is saved to the host wherever that is possible."""

from __future__ import annotations

from remora.agents.fixed_plan import FixedPlan
from remora.agents.heuristics.space import Space
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule

__all__ = ["OffloadAll"]


class OffloadAll(FixedPlan):
    """Offload every unit; the same as ``keep_all`` where the hardware cannot offload."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "offload_all"

    def plan(self, problem: Problem) -> Schedule:
        """Offload wherever the menu has it."""
        space = Space(problem, mixed=False)
        return space.build(space.with_action(Action.OFFLOAD))
