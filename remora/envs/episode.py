"""One planning episode: decisions unit by unit, none of which can end in a dead end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import UnitAction
from remora.envs.evaluation import Figures
from remora.envs.structure import open_group_start
from remora.envs.tables import CaseTables
from remora.errors import InvalidInputError
from remora.schedule.schedule import Schedule

__all__ = ["Completion", "Episode"]


@dataclass(frozen=True, slots=True)
class Completion:
    """How a row of decisions is completed to a plan that fits.

    Attributes:
        rung: rung of the ladder that decides about the units left.
        figures: figures of the whole plan.
    """

    rung: int
    figures: Figures


class Episode:
    """Decisions made so far on one case under one budget; frozen, ``after`` makes the next one.

    Invariant: the decisions so far, completed by a rung of the ladder, fit the budget. A
    decision is allowed only if some rung completes it to a plan that fits; the present rung's own
    next decision always is, so every episode ends with a plan that fits.

    Args:
        tables: what is known of the case.
        budget_bytes: memory of the device.
        decisions: the decisions so far.  # [cursor]
        completion: how they are completed, if that is known.

    Raises:
        InvalidInputError: the budget is below what the ladder reaches.
    """

    def __init__(
        self,
        tables: CaseTables,
        budget_bytes: int,
        decisions: tuple[int, ...] = (),
        completion: Completion | None = None,
    ) -> None:
        self.tables = tables
        self.budget_bytes = budget_bytes
        self.decisions = decisions
        if budget_bytes < tables.least_peak_bytes:
            raise InvalidInputError(
                f"budget_bytes is {budget_bytes}; allowed for {tables.case.name!r}: "
                f"at least {tables.least_peak_bytes}"
            )
        self.rungs = tables.rungs_under(budget_bytes)
        completion = completion or self._complete(decisions, 0)
        assert completion is not None
        self.completion = completion

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
        """The decisions so far and those of the rung.  # [num_units]."""
        return self.decisions + self.rungs.rows[self.completion.rung][self.cursor :]

    @property
    def figures(self) -> Figures:
        """Figures of the completed decisions."""
        return self.completion.figures

    @property
    def cost(self) -> float:
        """Log of the completed plan's step time over keeping everything; 0 is the ideal."""
        return math.log(self.figures.step_time_s / self.tables.keep_all.step_time_s)

    @property
    def open_group_start(self) -> int | None:
        """First unit of the open group, None where none is open."""
        return open_group_start(self.decisions)

    @cached_property
    def choices(self) -> tuple[Completion | None, ...]:
        """How every decision about the cursor's unit is completed; None if masked.

        # [num_actions].
        """
        if self.done:
            return (None,) * len(UnitAction)
        possible = self.tables.structure.possible(self.decisions)
        return tuple(
            self._complete((*self.decisions, int(action)), self.completion.rung)
            if possible[action]
            else None
            for action in UnitAction
        )

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Decisions that are allowed; never empty before the end.  # [num_actions]."""
        return np.array([choice is not None for choice in self.choices], dtype=np.bool_)

    @property
    def fallback(self) -> int:
        """The rung's own decision about the cursor's unit; always allowed."""
        action = self.rungs.rows[self.completion.rung][self.cursor]
        if not self.tables.structure.possible(self.decisions)[action]:
            # Only a nested group can lose its sense: alone, a unit is simply recomputed.
            action = int(UnitAction.CLOSE)
        return action

    def after(self, action: int) -> Episode:
        """The episode after deciding about the cursor's unit.

        Raises:
            InvalidInputError: the decision is not allowed by the mask.
        """
        completion = self.choices[action]
        if completion is None:
            allowed = ", ".join(other.name for other in UnitAction if self.mask[other])
            raise InvalidInputError(
                f"action is {UnitAction(action).name} at unit {self.cursor}; allowed: {allowed}"
            )
        return Episode(self.tables, self.budget_bytes, (*self.decisions, int(action)), completion)

    def schedule(self) -> Schedule:
        """The schedule of the completed decisions."""
        return self.tables.evaluator.schedule(self.completed, self.rungs.pace)

    def _complete(self, decisions: tuple[int, ...], rung: int) -> Completion | None:
        """Find a rung that fits: down from ``rung``, then back up as long as it still fits."""
        last = len(self.rungs.rows) - 1
        while (found := self._completion(decisions, rung)) is None:
            if rung == last:
                return None
            rung += 1
        while rung > 0 and (faster := self._completion(decisions, rung - 1)) is not None:
            found, rung = faster, rung - 1
        return found

    def _completion(self, decisions: tuple[int, ...], rung: int) -> Completion | None:
        evaluator = self.tables.evaluator
        rest = self.rungs.rows[rung][len(decisions) :]
        figures = evaluator.figures(decisions + rest, self.rungs.pace)
        return Completion(rung, figures) if evaluator.fits(figures, self.budget_bytes) else None
