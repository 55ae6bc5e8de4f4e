"""What episodes need to know of one problem, whatever is planned: a training step or a pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from remora.envs.actions import NUM_ACTIONS, Setting
from remora.schedule.cuts import default_pipeline
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.compiled import simulator_of
from remora.simulator.records import CostModel

if TYPE_CHECKING:
    from remora.envs.engine import Engine
    from remora.envs.graphs import UnitGraph

__all__ = ["PlanTables"]


class PlanTables(ABC):
    """Tables of one problem, worked out once.

    Args:
        name: shown in infos.
        problem: what is planned; its budget plays no part.
        cost_model: predicts the step time of finished plans; None for the simulator with the
            problem's own costs.
    """

    def __init__(self, name: str, problem: Problem, cost_model: CostModel | None = None) -> None:
        self.name = name
        self.problem = problem
        self._cost_model = cost_model

    @classmethod
    @abstractmethod
    def engine(cls, problems: Sequence[Any]) -> Engine:
        """The rules of episodes that plan some problems of this kind."""

    @property
    @abstractmethod
    def floor_bytes(self) -> int:
        """The peak at ``range`` 0."""

    @property
    @abstractmethod
    def least_bytes(self) -> int:
        """The smallest budget that an episode can have."""

    @property
    @abstractmethod
    def unit_graph(self) -> UnitGraph:
        """Units and edges as numbers."""

    @property
    @abstractmethod
    def rank_choices(self) -> tuple[int, ...]:
        """Ranks that one pipeline may have, most first."""

    @abstractmethod
    def schedule(self, setting: Setting, decisions: Sequence[int]) -> Schedule:
        """The schedule of a complete row of decisions.  # [num_units]."""

    @abstractmethod
    def option_s(self, unit: int, decision: int, micro_batches: int) -> float:
        """Seconds of a menu entry of a unit, on the scale of observations; 0 for what is none."""

    @property
    def num_units(self) -> int:
        """Units of the model."""
        return len(self.problem.graph.units)

    @cached_property
    def micro_batches(self) -> tuple[int, ...]:
        """Numbers of micro-batches to choose from, ascending."""
        if self.problem.micro_batches is not None:
            return (self.problem.micro_batches,)
        return tuple(sorted(self.problem.graphs)[:NUM_ACTIONS])

    @cached_property
    def keep_all_s(self) -> float:
        """Step time of the plan that changes nothing."""
        return self.step_time_s(self.keep_all)

    @cached_property
    def keep_all_bytes(self) -> int:
        """Peak of the plan that changes nothing."""
        return simulator_of(self.problem).figures(self.keep_all).max_peak_bytes

    @cached_property
    def keep_all(self) -> Schedule:
        """The plan that changes nothing."""
        return keep_all_schedule(self.problem.graph, default_pipeline(self.problem))

    @property
    def span_bytes(self) -> int:
        """What keeping everything takes beyond the least budget: features are relative to it."""
        return max(self.keep_all_bytes - self.least_bytes, 1)

    def budget_bytes(self, share: float) -> int:
        """Budget at ``range:share``, raised to what an episode can be sure to reach."""
        span = self.keep_all_bytes - self.floor_bytes
        return max(self.floor_bytes + round(share * span), self.least_bytes)

    def step_time_s(self, schedule: Schedule) -> float:
        """Seconds of one step under a valid schedule."""
        if self._cost_model is None:
            return simulator_of(self.problem).figures(schedule).step_time_s
        return self._cost_model.estimate(self.problem, schedule).step_time_s
