"""A small linear program whose optimum is bounded from below, whatever the solver's tolerances."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["LinearProgram"]

# The smallest that the solver allows: what its answer lacks is taken off the bound.
_TOLERANCE = 1e-10


class LinearProgram:
    """Minimise costs of variables from 0 to an upper limit, under rows ``sum(a * x) >= bound``.

    Attributes:
        unsolved: whether the solver found no solution, so that the bound says little.
    """

    def __init__(self) -> None:
        self.unsolved = False
        self._upper: list[float] = []
        self._cost: list[float] = []
        self._bound: list[float] = []
        self._row: list[int] = []
        self._column: list[int] = []
        self._value: list[float] = []

    def variable(self, upper: float = 1.0, cost: float = 0.0) -> int:
        """Add a variable; returns its index. ``upper`` must be finite."""
        self._upper.append(upper)
        self._cost.append(cost)
        return len(self._upper) - 1

    def add_cost(self, variable: int, cost: float) -> None:
        """Add to the cost of a variable; it may be negative."""
        self._cost[variable] += cost

    def at_least(self, terms: Iterable[tuple[int, float]], bound: float) -> None:
        """Add a row of (variable, factor) terms; it is kept with its largest factor as 1."""
        listed = list(terms)
        scale = max((abs(factor) for _, factor in listed), default=0.0) or 1.0
        row = len(self._bound)
        self._bound.append(bound / scale)
        for variable, factor in listed:
            self._row.append(row)
            self._column.append(variable)
            self._value.append(factor / scale)

    def lower_bound(self) -> float:
        """Solve, and return a number that the optimum does not go below.

        Any multipliers y >= 0 of the rows bound the optimum by
        ``sum(y * bound) + sum(min(0, cost - y @ matrix) * upper)``, so the solver's are only asked
        to make that large (Neumaier and Shcherbina 2004).
        """
        if not self._bound:
            return 0.0
        try:
            from scipy.sparse import csr_array
        except ImportError:
            # Scipy is not needed to plan: multipliers of 0 make a bound too, if a weak one.
            self.unsolved = True
            return float(np.minimum(self._cost, 0.0) @ np.asarray(self._upper))
        shape = (len(self._bound), len(self._upper))
        matrix = csr_array((self._value, (self._row, self._column)), shape=shape)
        multipliers = self._multipliers(matrix)
        reduced = np.asarray(self._cost) - matrix.T @ multipliers
        return float(
            multipliers @ np.asarray(self._bound)
            + np.minimum(reduced, 0.0) @ np.asarray(self._upper)
        )

    def _multipliers(self, matrix: object) -> NDArray[np.float64]:
        from scipy.optimize import linprog

        limits = np.column_stack([np.zeros(len(self._upper)), self._upper])
        result = linprog(
            self._cost,
            A_ub=-matrix,  # type: ignore[operator]
            b_ub=-np.asarray(self._bound),
            bounds=limits,
            method="highs",
            options={
                "primal_feasibility_tolerance": _TOLERANCE,
                "dual_feasibility_tolerance": _TOLERANCE,
            },
        )
        if result.ineqlin.marginals is None:
            self.unsolved = True
            return np.zeros(len(self._bound))
        return np.maximum(0.0, -np.asarray(result.ineqlin.marginals, dtype=np.float64))
