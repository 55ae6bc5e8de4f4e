"""Step time and peak of rows of decisions, remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remora.envs.actions import GroupFill, Pace, to_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import CostModel, Estimate

__all__ = ["DEFAULT_PACE", "Figures", "PlanEvaluator"]

DEFAULT_PACE = Pace()

MAX_REMEMBERED = 400_000
"""Rows of decisions kept per problem; about 100 bytes each."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a plan costs.

    Attributes:
        step_time_s: seconds of one step.
        peak_bytes: the figure compared with the budget: the upper bound of the peak.
        host_bytes: pinned host memory, held against the memory of the host.
    """

    step_time_s: float
    peak_bytes: int
    host_bytes: int


class PlanEvaluator:
    """Predicts complete rows of decisions on one problem, each at most once.

    The budget of the problem plays no part, so that episodes with other budgets share the memory.

    Args:
        problem: what is planned.
        cost_model: predicts time and peak.
        fill: places checkpoints inside nested groups.
    """

    def __init__(self, problem: Problem, cost_model: CostModel, fill: GroupFill) -> None:
        self.problem = problem
        self._cost_model = cost_model
        self._fill = fill
        self._known: dict[bytes, Figures] = {}

    def schedule(self, decisions: Sequence[int], pace: Pace = DEFAULT_PACE) -> Schedule:
        """The schedule of a complete row of decisions.  # [num_units]."""
        return to_schedule(self.problem, decisions, self._fill, pace)

    def figures(self, decisions: Sequence[int], pace: Pace = DEFAULT_PACE) -> Figures:
        """Time and peak of a complete row of decisions.  # [num_units]."""
        key = bytes((*decisions, pace.offload_window, pace.prefetch_distance))
        if key not in self._known:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = self.figures_of(self.schedule(decisions, pace))
        return self._known[key]

    def host_excess_bytes(self, figures: Figures) -> int:
        """Bytes that the host lacks for a plan; 0 where it has enough."""
        return max(0, figures.host_bytes - self.problem.hardware.host.memory_bytes)

    def fits(self, figures: Figures, budget_bytes: int) -> bool:
        """Whether device and host have the memory that a plan needs."""
        return figures.peak_bytes <= budget_bytes and self.host_excess_bytes(figures) == 0

    def figures_of(self, schedule: Schedule) -> Figures:
        """Time and peak of any schedule; not remembered."""
        return _figures(self._cost_model.estimate(self.problem, schedule))


def _figures(estimate: Estimate) -> Figures:
    return Figures(estimate.step_time_s, estimate.peak_bound_bytes, estimate.host_bytes)
