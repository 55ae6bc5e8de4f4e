"""An evaluator that remembers the best schedule of every shape beside the best of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from remora.agents.evaluation import Evaluator, Score
from remora.agents.heuristics.shapes import Shape, shape_of
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["ShapeRecorder"]


class ShapeRecorder(Evaluator):
    """Scores schedules within a limit of time.

    Args:
        problem: the problem.
        time_limit_s: seconds of the clock from now.
        clock: seconds from any start, growing; by default those that the processor worked for this
            process, so that a label does not get worse where the machine is shared.

    Attributes:
        plans: the fastest schedule that fits of every shape that was met with one.
    """

    def __init__(
        self,
        problem: Problem,
        time_limit_s: float,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        super().__init__(problem, time_limit_s, clock=clock)
        self.plans: dict[Shape, Schedule] = {}

    @property
    def ranked(self) -> list[Schedule]:
        """The plans, fastest first."""
        return sorted(self.plans.values(), key=lambda plan: self.score(plan).step_time_s)

    def score(self, schedule: Schedule) -> Score:
        """See :meth:`Evaluator.score`."""
        score = super().score(schedule)
        self._note(schedule, score)
        return score

    def score_all(self, schedules: Sequence[Schedule]) -> list[Score]:
        """See :meth:`Evaluator.score_all`."""
        scores = super().score_all(schedules)
        for schedule, score in zip(schedules, scores, strict=True):
            self._note(schedule, score)
        return scores

    def _note(self, schedule: Schedule, score: Score) -> None:
        if not score.feasible:
            return
        shape = shape_of(schedule.pipeline)
        known = self.plans.get(shape)
        if known is None or score.faster_than(super().score(known)):
            self.plans[shape] = schedule
