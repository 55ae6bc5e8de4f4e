"""A mixed-integer linear program, collected row by row and solved by HiGHS.

HiGHS is a branch-and-cut solver (Huangfu and Hall 2018 for its simplex).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from remora.errors import MissingExtraError

__all__ = ["Answer", "MixedProgram", "Term"]

Term = tuple[int, float]
"""A column and its factor."""

_RELATIVE_GAP = 2e-7
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver found.

    Attributes:
        values: of the best solution; None if none was found.  # [num_columns]
        bound: no solution has a smaller objective; infinite if there is none.
    """

    values: Sequence[float] | None
    bound: float


class MixedProgram:
    """Minimise a sum of columns from 0 to an upper limit under rows ``sum(a * x) <= limit``."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._uppers: list[float] = []
        self._binary: list[bool] = []
        self._lowers_of_rows: list[float] = []
        self._limits: list[float] = []
        self._starts: list[int] = [0]
        self._indices: list[int] = []
        self._values: list[float] = []

    def binary(self, cost: float = 0.0) -> int:
        """Add a column that is 0 or 1; returns its number."""
        return self._column(1.0, cost, binary=True)

    def continuous(self, upper: float = math.inf, cost: float = 0.0) -> int:
        """Add a column of any value from 0 on; returns its number."""
        return self._column(upper, cost, binary=False)

    def at_most(self, terms: Iterable[Term], limit: float) -> None:
        """Add a row; it is kept with its largest factor as 1."""
        self._row(terms, -math.inf, limit)

    def exactly(self, terms: Iterable[Term], value: float) -> None:
        """Add a row that is an equation."""
        self._row(terms, value, value)

    def solve(self, time_limit_s: float) -> Answer:
        """Run the solver; equal programs have equal answers unless the time ends it.

        Raises:
            MissingExtraError: the solver is not installed.
        """
        solver = _solver(time_limit_s)
        solver.passModel(self._model())
        solver.run()
        return _answer(solver)

    def _column(self, upper: float, cost: float, binary: bool) -> int:
        self._costs.append(cost)
        self._uppers.append(upper)
        self._binary.append(binary)
        return len(self._costs) - 1

    def _row(self, terms: Iterable[Term], lower: float, limit: float) -> None:
        listed = [(column, factor) for column, factor in terms if factor]
        scale = max((abs(factor) for _, factor in listed), default=1.0)
        self._lowers_of_rows.append(lower / scale)
        self._limits.append(limit / scale)
        self._indices += [column for column, _ in listed]
        self._values += [factor / scale for _, factor in listed]
        self._starts.append(len(self._indices))

    def _model(self) -> Any:
        import highspy

        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self._costs), len(self._limits)
        model.col_cost_ = np.array(self._costs)
        model.col_lower_ = np.zeros(len(self._costs))
        model.col_upper_ = np.array(self._uppers)
        model.row_lower_ = np.array(self._lowers_of_rows)
        model.row_upper_ = np.array(self._limits)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.array(self._starts, dtype=np.int32)
        model.a_matrix_.index_ = np.array(self._indices, dtype=np.int32)
        model.a_matrix_.value_ = np.array(self._values)
        kinds = highspy.HighsVarType
        model.integrality_ = [kinds.kInteger if b else kinds.kContinuous for b in self._binary]
        return model


def _solver(time_limit_s: float) -> Any:
    try:
        import highspy
    except ImportError as error:
        raise MissingExtraError("highspy", "solvers", "scheduler 'milp'") from error
    # The Python class around the solver prints a banner when it is made; its base does not.
    quiet: Any = highspy.Highs.__base__
    solver = quiet()
    options = {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "time_limit": time_limit_s,
        "mip_rel_gap": _RELATIVE_GAP,
        "mip_abs_gap": 0.0,
        "primal_feasibility_tolerance": _TOLERANCE,
        "mip_feasibility_tolerance": _TOLERANCE,
    }
    for name, value in options.items():
        solver.setOptionValue(name, value)
    return solver


def _answer(solver: Any) -> Answer:
    import highspy

    status, info = solver.getModelStatus(), solver.getInfo()
    infeasible = (
        highspy.HighsModelStatus.kInfeasible,
        highspy.HighsModelStatus.kUnboundedOrInfeasible,
    )
    if status in infeasible:
        return Answer(None, math.inf)
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    values = list(solver.getSolution().col_value) if found else None
    # Before the root is solved there is no bound yet.
    bound = info.mip_dual_bound if math.isfinite(info.mip_dual_bound) else 0.0
    return Answer(values, max(0.0, bound))
