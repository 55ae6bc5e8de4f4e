"""Scheduler ``recompute_all``: checkpoint every unit, as "full" activation checkpointing does."""

from __future__ import annotations

from remora.agents.fixed_plan import FixedPlan
from remora.agents.heuristics.space import Space
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule

__all__ = ["RecomputeAll"]


class RecomputeAll(FixedPlan):
    """Recompute every unit by itself, each from its own inputs."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "recompute_all"

    def plan(self, problem: Problem) -> Schedule:
        """Recompute wherever the menu has it."""
        space = Space(problem, mixed=False)
        return space.build(space.with_action(Action.RECOMPUTE))
