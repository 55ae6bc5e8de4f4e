"""Scheduler ``keep_all``: what PyTorch does by itself."""

from __future__ import annotations

from remora.agents.fixed_plan import FixedPlan
from remora.schedule.cuts import default_pipeline
from remora.schedule.inference import Mode
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["KeepAll"]


class KeepAll(FixedPlan):
    """Keep every saved tensor; in inference, everything on the device and the stages balanced."""

    modes = tuple(Mode)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "keep_all"

    def plan(self, problem: Problem) -> Schedule:
        """The schedule that changes nothing."""
        return keep_all_schedule(problem.graph, default_pipeline(problem))
