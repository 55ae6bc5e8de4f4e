from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest

from remora.cost_models.baselines.fitted_roofline import Roofline, fit_roofline
from remora.cost_models.baselines.trees import fit_trees
from remora.cost_models.gnn.op_evaluation import (
    repetition_noise,
    unit_errors,
    worst_operators,
)
from remora.cost_models.gnn.op_times import OpTimePredictor
from remora.errors import InvalidInputError
from tests.cost_models.gnn.op_runs import real_runs


def error(model: OpTimePredictor) -> float:
    return statistics.median(abs(e.error) for e in unit_errors(model, real_runs()))


def test_fitted_constants_are_better_than_guessed_ones() -> None:
    fitted = fit_roofline(real_runs())
    assert error(fitted) < error(Roofline())
    assert fitted.launch > 0
    assert fitted.view > 0


def test_trees_learn_operators() -> None:
    pytest.importorskip("sklearn")
    trees = fit_trees(real_runs(), iterations=60)
    assert error(trees) < 0.15
    again = fit_trees(real_runs(), iterations=60)
    run = real_runs()[0]
    hardware = run.setting.hardware
    np.testing.assert_array_equal(
        again.op_times_s(run.graph, hardware).times_s, trees.op_times_s(run.graph, hardware).times_s
    )


def test_runs_without_units_are_refused() -> None:
    empty = [replace(real_runs()[0], units=())]
    with pytest.raises(InvalidInputError, match="allowed: some with measured units"):
        fit_roofline(empty)
    pytest.importorskip("sklearn")
    with pytest.raises(InvalidInputError, match="allowed: some with measured units"):
        fit_trees(empty)


def test_worst_operators_come_first() -> None:
    found = worst_operators(Roofline(), real_runs())
    assert found[0].absolute >= found[-1].absolute
    assert all(abs(op.signed) <= op.absolute + 1e-12 for op in found)


def test_noise_of_repetitions() -> None:
    assert 0.0 < repetition_noise(real_runs()) < 0.2
