"""Which decisions make sense at a unit before any budget is looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import UnitAction
from remora.schedule.menu import plain_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action

__all__ = ["Structure", "open_group_start"]


def open_group_start(decisions: Sequence[int]) -> int | None:
    """First unit of the group that the last decision left open, None where it left none open."""
    start = len(decisions)
    while start > 0 and decisions[start - 1] == UnitAction.RECOMPUTE:
        start -= 1
    return start if start < len(decisions) else None


class Structure:
    """The menu of every unit, and which decisions are possible and not a mere double of another.

    Args:
        problem: what is planned.
    """

    def __init__(self, problem: Problem) -> None:
        self._chain = problem.chain
        self._offloads = problem.hardware.can_offload
        units = problem.chain.units
        self.num_units = len(units)
        self.recomputable = tuple(not unit.fixed for unit in units)  # [num_units]
        self.offloadable = tuple(  # [num_units]
            any(Action.OFFLOAD in option.distinct for option in plain_menu(problem, unit))
            for unit in problem.graph.units
        )

    def possible_alone(self) -> list[NDArray[np.bool_]]:
        """Decisions possible for every unit if its neighbours are kept.  # [num_units]."""
        keep = int(UnitAction.KEEP)
        return [self.possible((keep,) * index) for index in range(self.num_units)]

    def possible(self, decisions: Sequence[int]) -> NDArray[np.bool_]:
        """Decisions possible for the unit after ``decisions``.

        Args:
            decisions: the decisions made so far, fewer than there are units.

        Returns:
            A flag per :class:`UnitAction`.  # [num_actions]
        """
        index = len(decisions)
        possible = np.zeros(len(UnitAction), dtype=np.bool_)
        possible[UnitAction.KEEP] = True
        possible[UnitAction.OFFLOAD] = self.offloadable[index]
        if not self.recomputable[index]:
            return possible
        start = open_group_start(decisions)
        start = index if start is None else start
        following = index + 1
        possible[UnitAction.CLOSE] = True
        possible[UnitAction.RECOMPUTE] = following < self.num_units and self.recomputable[following]
        possible[UnitAction.CLOSE_NESTED] = start < index
        possible[UnitAction.CLOSE_OFFLOADED] = self._offloads and bool(
            self._chain.private_inputs(start, following)
        )
        return possible
