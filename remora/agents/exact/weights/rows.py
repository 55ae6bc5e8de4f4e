"""A small integer program for scipy's HiGHS: variables from 0 up, rows with a least value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "IntegerRows", "Term"]

Term = tuple[int, float]
"""A variable and its factor."""

_IMPOSSIBLE = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """How the solver ended.

    Attributes:
        values: of all variables; None without a solution.  # [num_variables]
        bound: the objective does not go below; infinite where no solution exists.
    """

    values: NDArray[np.float64] | None
    bound: float


class IntegerRows:
    """Collects variables and rows ``sum(factor * variable) >= least``."""

    def __init__(self) -> None:
        self._upper: list[float] = []
        self._whole: list[int] = []
        self._least: list[float] = []
        self._places: list[tuple[int, int, float]] = []

    def variable(self, upper: float = 1.0, whole: bool = False) -> int:
        """Add a variable from 0 to ``upper``; returns its index."""
        self._upper.append(upper)
        self._whole.append(int(whole))
        return len(self._upper) - 1

    def at_least(self, terms: Iterable[Term], least: float) -> None:
        """Add a row."""
        row = len(self._least)
        self._least.append(least)
        self._places += [(row, variable, factor) for variable, factor in terms]

    def minimise(self, variable: int, time_limit_s: float) -> Answer:
        """Minimise one variable.

        Args:
            variable: it is never negative.
            time_limit_s: seconds for the solver.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        rows, columns, factors = zip(*self._places, strict=True)
        shape = (len(self._least), len(self._upper))
        costs = np.zeros(len(self._upper))
        costs[variable] = 1.0
        result = milp(
            costs,
            constraints=LinearConstraint(csr_array((factors, (rows, columns)), shape), self._least),
            bounds=Bounds(0.0, self._upper),
            integrality=self._whole,
            options={"time_limit": max(0.0, time_limit_s), "mip_rel_gap": 0.0},
        )
        if result.status == _IMPOSSIBLE:
            return Answer(None, np.inf)
        bound = result.mip_dual_bound
        return Answer(result.x, 0.0 if bound is None else max(0.0, float(bound)))
