"""Partitions of one shape, brought in line with the simulator.

What the program counts for a rank and what the simulator finds differ a little: gradients come
late, tensors are shared, stages of one rank are not full at the same time. So it is solved a few
times, and each time the limits of the stages are moved by the difference found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.agents.evaluation import Evaluator
from remora.agents.exact.partition.fill import Filled, Knapsacks, fill_ranks
from remora.agents.exact.partition.program import Partition
from remora.agents.exact.partition.shape import ShapeProgram
from remora.agents.heuristics.space import Space
from remora.schedule.schedule import Schedule

__all__ = ["ShapeSearch"]

_ROUNDS = 4
"""Most cuts that are filled from one start."""

_FURTHER = 2
"""Trade-offs that are filled beside the best one where a start has led to."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShapeSearch:
    """Fills the partitions of one program with options that fit in the simulator.

    Attributes:
        space: where schedules are built.
        program: one shape.
        evaluator: scores and limits.
    """

    space: Space
    program: ShapeProgram
    evaluator: Evaluator

    def run(self) -> None:
        """Solve, fill, move the limits, and again, from three starts.

        These are the best cuts within the budget by the program's own count, those of least
        memory, and those that were best if memory had no limit.

        Raises:
            SearchEnded: a limit of the evaluator is reached.
        """
        filled: dict[tuple[int, ...], Filled] = {}
        for start in (self._within_budget(), self.program.leanest[1:], [self.program.ideal]):
            ranked = list(start)
            for _ in range(_ROUNDS):
                if not ranked or ranked[0].cuts in filled:
                    break
                cuts = ranked[0].cuts
                filled[cuts] = self._fill(cuts)
                ranked = self._moved(filled[cuts]) or ranked
            for further in ranked[1 : 1 + _FURTHER]:
                if further.cuts not in filled:
                    filled[further.cuts] = self._fill(further.cuts)

    def leanest(self) -> Iterable[Schedule]:
        """Schedules that need the least memory in the program's own count."""
        cuts = dict.fromkeys(partition.cuts for partition in self.program.leanest)
        return (self._knapsacks(one).leanest for one in cuts)

    def _within_budget(self) -> list[Partition]:
        """What fits if every stage of a rank gets the same part of the memory."""
        loads = self.program.loads
        limit_bytes = self.evaluator.problem.budget_bytes / loads.stages_per_rank
        return self.program.within([limit_bytes] * loads.num_stages, np.zeros(loads.num_stages))

    def _moved(self, filled: Filled) -> list[Partition]:
        """What fits if the program counts to the budget where the simulator does.

        A stage that shares its rank gets the memory that it used and a part of what is left.
        """
        cuts, program = filled.schedule.pipeline.cuts, self.program
        limits = program.stage_bytes(cuts, filled.chosen)
        for team in program.loads.teams:
            peak_bytes = max(filled.score.peaks_bytes[rank] for rank in team.ranks)
            left_bytes = self.evaluator.problem.budget_bytes - peak_bytes
            limits[list(team.stages)] += left_bytes / len(team.stages)
        return program.within(limits.tolist(), program.parts(program.stage_s(cuts, filled.chosen)))

    def _fill(self, cuts: tuple[int, ...]) -> Filled:
        return fill_ranks(self._knapsacks(cuts), self.evaluator)

    def _knapsacks(self, cuts: tuple[int, ...]) -> Knapsacks:
        program = self.program
        return Knapsacks(self.space, program.menu, program.loads, program.shape.cut(cuts))
