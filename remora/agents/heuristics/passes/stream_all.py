"""Scheduler ``stream_all``: every weight and cache waits on the host and comes in for its unit."""

from __future__ import annotations

from remora.agents.fixed_plan import FixedPlan
from remora.schedule.cuts import default_pipeline
from remora.schedule.inference import Mode
from remora.schedule.pass_space import PassSpace
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["StreamAll"]


class StreamAll(FixedPlan):
    """The plan of least memory with balanced stages; where nothing can wait, all stays."""

    modes = (Mode.INFERENCE,)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "stream_all"

    def plan(self, problem: Problem) -> Schedule:
        """The schedule that leaves everything on the host."""
        space = PassSpace(problem)
        return space.build(default_pipeline(problem), space.everything)
