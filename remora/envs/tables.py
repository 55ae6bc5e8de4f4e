"""What is known of one planning problem before an episode begins, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from remora.envs.actions import GroupFill, Pace
from remora.envs.completion import least_memory_decisions
from remora.envs.evaluation import Figures, PlanEvaluator
from remora.envs.ladder import memory_ladder
from remora.envs.polish import polish
from remora.envs.structure import Structure
from remora.errors import InvalidInputError
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.floor import floor_schedule
from remora.simulator.records import CostModel

__all__ = ["Case", "CaseTables", "Rungs"]

LADDER_PACES = (Pace(2, 1), Pace(4, 2), Pace(7, 4))
"""Paces of host copies for which ladders are made; the first is the one of least memory."""


@dataclass(frozen=True)
class Case:
    """A problem to plan under many budgets.

    Attributes:
        name: shown in infos and tables, for example ``gpt2_tiny/a100_40g``.
        problem: graph, costs and hardware; its own budget is not used.
    """

    name: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Rungs:
    """A ladder of plans; what completes the decisions of an episode.

    Attributes:
        rows: rows of decisions, from keeping everything to the least memory.
            # [num_rungs][num_units]
        pace: of host copies, for all of them.
    """

    rows: tuple[tuple[int, ...], ...]
    pace: Pace


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
        self._rungs: dict[int, Rungs] = {}

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
    def ladders(self) -> tuple[Rungs, ...]:
        """A ladder from keeping everything to the least memory for each of a few paces."""
        return tuple(
            Rungs(memory_ladder(self.evaluator, self.structure, self.least_memory, pace), pace)
            for pace in LADDER_PACES
        )

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

    def rungs_under(self, budget_bytes: int) -> Rungs:
        """The best ladder for a budget, with one rung more: its first that fits, polished.

        Args:
            budget_bytes: memory of the device; at least ``least_peak_bytes``.
        """
        if budget_bytes not in self._rungs:
            starts = [self._first_that_fits(ladder, budget_bytes) for ladder in self.ladders]
            _, number, place = min(start for start in starts if start is not None)
            rows, pace = self.ladders[number].rows, self.ladders[number].pace
            best = polish(self.evaluator, self.structure, rows[place], pace, budget_bytes)
            rows = (*rows[:place], best.decisions, *rows[place:])
            self._rungs[budget_bytes] = Rungs(rows, best.pace)
        return self._rungs[budget_bytes]

    def _first_that_fits(self, ladder: Rungs, budget_bytes: int) -> tuple[float, int, int] | None:
        """Step time, number of the ladder and place of its first rung that fits, if any does."""
        for place, row in enumerate(ladder.rows):
            figures = self.evaluator.figures(row, ladder.pace)
            if self.evaluator.fits(figures, budget_bytes):
                return figures.step_time_s, self.ladders.index(ladder), place
        return None

    def budget_bytes(self, share: float) -> int:
        """Budget at ``range:share``, raised to what an episode can reach.

        Args:
            share: 0 is the least peak of recomputation alone, 1 the keep-all peak.
        """
        span = self.keep_all.peak_bytes - self.floor_peak_bytes
        return max(self.floor_peak_bytes + round(share * span), self.least_peak_bytes)
