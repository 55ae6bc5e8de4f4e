"""Step time and peak of a schedule by simulating it with the problem's own cost table."""

from __future__ import annotations

from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate
from remora.simulator.simulate import estimate

__all__ = ["SimulatedCostModel"]


class SimulatedCostModel:
    """Any cost table with the simulator on top; its bound on the peak is the peak itself.

    Args:
        name: name of the cost table's source, ``roofline`` or ``profiled``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self._name

    def estimate(self, problem: Problem, schedule: Schedule) -> Estimate:
        """Predict figures for ``schedule``.

        Raises:
            InvalidInputError: the schedule is not valid for the problem.
        """
        return estimate(problem, schedule, self._name)
