"""Which problem an episode plans, and under which budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from remora.envs.drawing import BudgetDraw
from remora.envs.engine import Engine
from remora.envs.plan_tables import PlanTables
from remora.errors import InvalidInputError

__all__ = ["BudgetDraw", "JointSampler", "ProblemTest"]

ProblemTest = Callable[[PlanTables, int], bool]
"""Whether a problem under a budget in bytes is worth an episode."""

_MOST_DRAWS = 20


class JointSampler:
    """Draws a problem and a budget.

    Args:
        problems: what may be planned.
        budgets: how budgets are drawn.
        keep: test that a drawn episode must pass; after 20 refusals the last one is played.

    Raises:
        InvalidInputError: there is no problem, two have the same name, or some are of training and
            others of inference.
    """

    def __init__(
        self,
        problems: Sequence[PlanTables],
        budgets: BudgetDraw | None = None,
        keep: ProblemTest | None = None,
    ) -> None:
        if not problems:
            raise InvalidInputError("problems is empty; allowed: at least one problem")
        names = [problem.name for problem in problems]
        if len(set(names)) < len(names):
            raise InvalidInputError(f"problems are named {', '.join(names)}; allowed: each once")
        modes = {problem.problem.mode for problem in problems}
        if len(modes) > 1:
            raise InvalidInputError(
                f"problems are of modes {', '.join(sorted(modes))}; allowed: all of one mode"
            )
        self.problems = tuple(problems)
        self._budgets = budgets or BudgetDraw()
        self._keep = keep

    @cached_property
    def engine(self) -> Engine:
        """The rules of episodes, shared by the environments that draw from here."""
        return self.problems[0].engine(self.problems)

    def sample(self, generator: np.random.Generator) -> tuple[int, int]:
        """Draw the index of a problem and a budget in bytes."""
        for _ in range(_MOST_DRAWS):
            index = int(generator.integers(len(self.problems)))
            problem = self.problems[index]
            budget = _within_free(problem, problem.budget_bytes(self._budgets.share(generator)))
            if self._keep is None or self._keep(problem, budget):
                break
        return index, budget

    def find(self, name: str, share: float) -> tuple[int, int]:
        """Index and budget of a problem at ``range:share``.

        Raises:
            InvalidInputError: no problem has that name.
        """
        for index, problem in enumerate(self.problems):
            if problem.name == name:
                return index, problem.budget_bytes(share)
        names = ", ".join(problem.name for problem in self.problems)
        raise InvalidInputError(f"problem is {name!r}; allowed: {names}")


def _within_free(problem: PlanTables, budget: int) -> int:
    return max(min(budget, problem.problem.hardware.free_memory_bytes), problem.least_bytes)
