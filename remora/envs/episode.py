"""One planning episode: decisions unit by unit, none of which can end in a dead end."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import UnitAction
from remora.envs.evaluation import Figures
from remora.envs.structure import open_group_start
from remora.envs.tables import CaseTables
from remora.errors import InvalidInputError
from remora.schedule.schedule import Schedule

__all__ = ["Choice", "Episode"]

Choice = Figures | None
"""Figures of the plan that a decision leads to once the fixed rule completes it; None: masked."""


class Episode:
    """Decisions made so far on one case under one budget; frozen, ``after`` makes the next one.

    Invariant: the decisions so far, completed by the rule of least memory, fit the budget. A
    decision is allowed only if that still holds after it, and the completion's own next decision
    always is, so every episode ends with a plan that fits.

    Args:
        tables: what is known of the case.
        budget_bytes: memory of the device.
        decisions: the decisions so far.  # [cursor]

    Raises:
        InvalidInputError: the budget is below what the completion rule reaches.
    """

    def __init__(
        self, tables: CaseTables, budget_bytes: int, decisions: tuple[int, ...] = ()
    ) -> None:
        if budget_bytes < tables.least_peak_bytes:
            raise InvalidInputError(
                f"budget_bytes is {budget_bytes}; allowed for {tables.case.name!r}: "
                f"at least {tables.least_peak_bytes}"
            )
        self.tables = tables
        self.budget_bytes = budget_bytes
        self.decisions = decisions

    @property
    def cursor(self) -> int:
        """The unit to decide about; the number of units when the episode is over."""
        return len(self.decisions)

    @property
    def done(self) -> bool:
        """Whether every unit is decided."""
        return self.cursor == self.tables.num_units

    @property
    def completed(self) -> tuple[int, ...]:
        """The decisions so far and those of the completion rule.  # [num_units]."""
        return self.decisions + self.tables.completion[self.cursor :]

    @cached_property
    def figures(self) -> Figures:
        """Figures of the completed decisions."""
        return self.tables.evaluator.figures(self.completed)

    @property
    def cost(self) -> float:
        """Log of the completed plan's step time over keeping everything; 0 is the ideal."""
        return math.log(self.figures.step_time_s / self.tables.keep_all.step_time_s)

    @property
    def open_group_start(self) -> int | None:
        """First unit of the open group, None where none is open."""
        return open_group_start(self.decisions)

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """What every decision about the cursor's unit leads to.  # [num_actions]."""
        evaluator = self.tables.evaluator
        possible = self.tables.structure.possible(self.decisions)
        rest = self.tables.completion[self.cursor + 1 :]
        choices: list[Choice] = []
        for action in UnitAction:
            choice: Choice = None
            if possible[action]:
                figures = evaluator.figures((*self.decisions, int(action), *rest))
                choice = figures if evaluator.fits(figures, self.budget_bytes) else None
            choices.append(choice)
        return tuple(choices)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Decisions that are allowed; never empty before the end.  # [num_actions]."""
        if self.done:
            return np.zeros(len(UnitAction), dtype=np.bool_)
        return np.array([choice is not None for choice in self.choices], dtype=np.bool_)

    @property
    def fallback(self) -> int:
        """The completion rule's own decision about the cursor's unit; always allowed."""
        action = self.tables.completion[self.cursor]
        if not self.tables.structure.possible(self.decisions)[action]:
            # Only a nested group can lose its sense: alone, a unit is simply recomputed.
            action = int(UnitAction.CLOSE)
        return action

    def after(self, action: int) -> Episode:
        """The episode after deciding about the cursor's unit.

        Raises:
            InvalidInputError: the decision is not allowed by the mask.
        """
        if not self.mask[action]:
            allowed = ", ".join(action.name for action in UnitAction if self.mask[action])
            raise InvalidInputError(
                f"action is {UnitAction(action).name} at unit {self.cursor}; allowed: {allowed}"
            )
        return Episode(self.tables, self.budget_bytes, (*self.decisions, int(action)))

    def schedule(self) -> Schedule:
        """The schedule of the completed decisions."""
        return self.tables.evaluator.schedule(self.completed)
