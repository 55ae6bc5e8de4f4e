"""What is known of one planning problem before an episode begins, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from remora.envs.actions import GroupFill
from remora.envs.completion import least_memory_decisions
from remora.envs.evaluation import Figures, PlanEvaluator
from remora.envs.ladder import memory_ladder
from remora.envs.structure import Structure
from remora.errors import InvalidInputError
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.floor import floor_schedule
from remora.simulator.records import CostModel

__all__ = ["Case", "CaseTables"]


@dataclass(frozen=True)
class Case:
    """A problem to plan under many budgets.

    Attributes:
        name: shown in infos and tables, for example ``gpt2_tiny/a100_40g``.
        problem: graph, costs and hardware; its own budget is not used.
    """

    name: str
    problem: Problem


class CaseTables:
    """Figures of one case that hold for every budget.

    Args:
        case: what is planned; one device.
        cost_model: predicts time and peak.
        fill: places checkpoints inside nested groups.

    Raises:
        InvalidInputError: the problem spans several devices or fixes several micro-batches.
    """

    def __init__(self, case: Case, cost_model: CostModel, fill: GroupFill) -> None:
        problem = case.problem
        if problem.world_size != 1 or problem.micro_batches not in (None, 1):
            raise InvalidInputError(
                f"problem {case.name!r} has world_size={problem.world_size} and micro_batches="
                f"{problem.micro_batches}; allowed: one device and one micro-batch"
            )
        self.case = case
        self.problem = problem
        self.evaluator = PlanEvaluator(problem, cost_model, fill)
        self.structure = Structure(problem)

    @property
    def num_units(self) -> int:
        """Length of an episode."""
        return self.structure.num_units

    @cached_property
    def keep_all(self) -> Figures:
        """Figures of the plan that changes nothing."""
        return self.evaluator.figures_of(keep_all_schedule(self.problem.graph))

    @cached_property
    def least_memory(self) -> tuple[int, ...]:
        """Decisions that need the least memory.  # [num_units]."""
        return least_memory_decisions(self.evaluator, self.structure, self._floor_plan.memory)

    @cached_property
    def ladder(self) -> tuple[tuple[int, ...], ...]:
        """Rows of decisions from keeping everything to the least memory.

        # [num_rungs][num_units].
        """
        return memory_ladder(self.evaluator, self.structure, self.least_memory)

    @cached_property
    def least_peak_bytes(self) -> int:
        """The smallest budget an episode can have."""
        return self.evaluator.figures(self.least_memory).peak_bytes

    @cached_property
    def floor_peak_bytes(self) -> int:
        """The peak that stands at ``range`` 0: recomputation alone."""
        return self.evaluator.figures_of(self._floor_plan).peak_bytes

    @cached_property
    def _floor_plan(self) -> Schedule:
        return floor_schedule(self.problem)

    def budget_bytes(self, share: float) -> int:
        """Budget at ``range:share``, raised to what an episode can reach.

        Args:
            share: 0 is the least peak of recomputation alone, 1 the keep-all peak.
        """
        span = self.keep_all.peak_bytes - self.floor_peak_bytes
        return max(self.floor_peak_bytes + round(share * span), self.least_peak_bytes)
