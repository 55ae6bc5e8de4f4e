"""A bound is still a bound where the solver is not installed."""

from __future__ import annotations

import sys

import pytest

from remora.simulator.bounds.linear_program import LinearProgram


def test_without_a_solver_the_bound_is_weak_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    solved, without = _program(), _program()
    assert solved.lower_bound() == pytest.approx(-1.0)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    # Nothing is known of the row, so x may be 2 and y 0.
    assert without.lower_bound() == pytest.approx(-4.0)
    assert without.unsolved
    assert not solved.unsolved


def _program() -> LinearProgram:
    """Minimise 3 y - 2 x with x <= 2, y <= 1 and y >= x / 2."""
    program = LinearProgram()
    x = program.variable(upper=2.0, cost=-2.0)
    y = program.variable(upper=1.0, cost=3.0)
    program.at_least([(y, 1.0), (x, -0.5)], 0.0)
    return program
