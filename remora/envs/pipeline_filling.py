"""Works out, once per problem, with which budgets its pipelines can be completed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from remora.envs.least_budgets import fill_least_budgets, least_budget
from remora.envs.stacking import stack_with
from remora.envs.stage_bytes import NUM_USES

if TYPE_CHECKING:
    from remora.envs.problem_tables import ProblemTables

__all__ = ["LeastBudgets", "least_budgets"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LeastBudgets = tuple[Floats, Ints, int]
"""``Pipelines.shares`` and ``Pipelines.least`` of one problem, and the least budget of all."""


def least_budgets(problem: ProblemTables) -> LeastBudgets:
    """Fill the tables of a problem of several ranks."""
    shares = np.ones((sum(len(s.states) * s.num_stages for s in problem.shapes), NUM_USES))
    entries = sum(len(s.states) * (s.num_stages + 1) for s in problem.shapes)
    least = np.zeros(entries * (problem.num_units + 1), dtype=np.int64)
    tables = stack_with([problem], [shares], [least])
    smallest = []
    for number, shape in enumerate(problem.shapes):
        cuts = np.array([0, *shape.cuts, problem.num_units], dtype=np.int64)
        takes = np.zeros((shape.num_stages + 1, NUM_USES), dtype=np.int64)
        for state in shape.states:
            fill_least_budgets(tables, number, state, cuts, takes)
            smallest.append(least_budget(tables, number, state, 0, 0))
    return tables.pipelines.shares, tables.pipelines.least, min(smallest)
