"""Which problem an episode plans: one of several cases, under a random budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from remora.envs.actions import GroupFill, nest_every_unit
from remora.envs.episode import Episode
from remora.envs.tables import Case, CaseTables
from remora.errors import InvalidInputError
from remora.simulator.records import CostModel

__all__ = ["BudgetRange", "EpisodeFilter", "ProblemSampler"]

EpisodeFilter = Callable[[Episode], bool]
"""Whether an episode is worth playing."""

_MAX_DRAWS = 20


@dataclass(frozen=True, slots=True)
class BudgetRange:
    """Budgets as shares of the way from the least memory to keeping everything.

    Attributes:
        low, high: lowest and highest budget; 0 is what recomputation alone reaches, 1 is keep all.
        steps: number of budgets, evenly spaced, so that what is known of one serves again.
    """

    low: float
    high: float
    steps: int = 25

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high:
            raise InvalidInputError(
                f"budget range is {self.low} to {self.high}; allowed: 0 <= low <= high"
            )
        if self.steps < 1:
            raise InvalidInputError(f"budget steps is {self.steps}; allowed: 1 or more")

    def shares(self) -> tuple[float, ...]:
        """All budgets, ascending."""
        return tuple(float(share) for share in np.linspace(self.low, self.high, self.steps))


class ProblemSampler:
    """Draws episodes: a case, then a budget.

    Args:
        cases: what may be planned.
        budgets: bounds of the budget.
        cost_model: predicts time and peak.
        fill: places checkpoints inside nested groups.
        keep: test that a drawn episode must pass; after 20 refusals the last one is played.

    Raises:
        InvalidInputError: there is no case.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        budgets: BudgetRange,
        cost_model: CostModel,
        fill: GroupFill = nest_every_unit,
        keep: EpisodeFilter | None = None,
    ) -> None:
        if not cases:
            raise InvalidInputError("cases is empty; allowed: at least one case")
        self.budgets = budgets
        self.tables = tuple(CaseTables(case, cost_model, fill) for case in cases)
        self._keep = keep

    def sample(self, generator: np.random.Generator) -> Episode:
        """Draw an episode; the same generator state draws the same one."""
        for _ in range(_MAX_DRAWS):
            tables = self.tables[int(generator.integers(len(self.tables)))]
            share = float(generator.choice(self.budgets.shares()))
            episode = Episode(tables, tables.budget_bytes(share))
            if self._keep is None or self._keep(episode):
                break
        return episode

    def find(self, case_name: str, share: float) -> Episode:
        """The episode of a case at ``range:share``.

        Raises:
            InvalidInputError: no case has that name.
        """
        for tables in self.tables:
            if tables.case.name == case_name:
                return Episode(tables, tables.budget_bytes(share))
        names = ", ".join(tables.case.name for tables in self.tables)
        raise InvalidInputError(f"case is {case_name!r}; allowed: {names}")
