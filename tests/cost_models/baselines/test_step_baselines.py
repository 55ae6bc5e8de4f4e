"""What corrections of whole steps are held against."""

from __future__ import annotations

import numpy as np
import pytest

from remora.cost_models.baselines.end_to_end import EndToEndConfig, fit_end_to_end
from remora.cost_models.baselines.step_trees import fit_step_trees
from remora.cost_models.gnn.step_evaluation import evaluate_steps, simulated
from remora.cost_models.gnn.step_examples import StepExample
from tests.cost_models.gnn.synthetic_steps import examples


@pytest.fixture(scope="module")
def known() -> list[StepExample]:
    return examples()


def test_a_network_without_simulator_learns_times_and_peaks(known: list[StepExample]) -> None:
    config = EndToEndConfig(epochs=40, hidden=16, layers=2, batch_size=24)
    model = fit_end_to_end(known, config)
    found = evaluate_steps(known, model.predict(known))
    spread = np.array([example.row.step_time_s for example in known])
    constant = float(np.median(np.abs(np.median(spread) / spread - 1)))
    assert found.step_error < 0.6 * constant
    again = fit_end_to_end(known, config).predict(known)
    assert again.step_time_s.tolist() == model.predict(known).step_time_s.tolist()


def test_trees_correct_the_simulator(known: list[StepExample]) -> None:
    pytest.importorskip("sklearn")
    fresh = examples(per_family=2, seed=50)
    model = fit_step_trees(known)
    raw = evaluate_steps(fresh, simulated(fresh)).step_error
    assert evaluate_steps(fresh, model.predict(fresh)).step_error < 0.7 * raw
