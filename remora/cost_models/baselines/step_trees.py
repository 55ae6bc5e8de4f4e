"""Baseline: gradient-boosted trees on sums over the units correct the simulator.

Trees: Friedman 2001; the implementation is scikit-learn's histogram-based one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.gnn.step_examples import StepExample
from remora.cost_models.gnn.step_features import EncodedSteps
from remora.cost_models.gnn.step_model import Corrected
from remora.errors import MissingExtraError

__all__ = ["StepTrees", "fit_step_trees"]

Floats = NDArray[np.float64]


class StepTrees:
    """Corrects the log of step time and peak.

    Args:
        step: fitted regressor of log measured over simulated seconds.
        peak: the same for bytes.
    """

    def __init__(self, step: Any, peak: Any) -> None:
        self._step = step
        self._peak = peak

    def predict(self, examples: Sequence[StepExample]) -> Corrected:
        """Predict steps; the bound is the peak itself."""
        table = _table(examples)
        step_s = np.concatenate([example.encoded.step_s for example in examples])
        peaks = np.concatenate([example.encoded.peak_bytes for example in examples])
        corrected = np.rint(peaks * np.exp(self._peak.predict(table))).astype(np.int64)
        return Corrected(
            step_time_s=step_s * np.exp(self._step.predict(table)),
            spread=np.zeros(len(examples)),
            peak_bytes=corrected,
            bound_bytes=corrected,
            confidence=np.zeros(len(examples)),
        )


def fit_step_trees(examples: Sequence[StepExample], seed: int = 0) -> StepTrees:
    """Fit both regressors.

    Args:
        examples: measured steps.
        seed: of the trees.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import (  # type: ignore[import-untyped]
            HistGradientBoostingRegressor,
        )
    except ImportError as error:
        raise MissingExtraError("sklearn", "bench", "the baseline of boosted trees") from error
    table = _table(examples)
    measured = np.array(
        [(example.row.step_time_s, example.row.peak_memory_bytes) for example in examples]
    )
    guess = np.concatenate(
        [np.stack([e.encoded.step_s, e.encoded.peak_bytes], axis=1) for e in examples]
    )
    ratios = np.log(measured / guess)
    step, peak = (
        HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=200,
            learning_rate=0.05,
            min_samples_leaf=10,
            random_state=seed,
        ).fit(table, ratios[:, column])
        for column in range(2)
    )
    return StepTrees(step, peak)


def _table(examples: Sequence[StepExample]) -> Floats:
    """One row per step.  # [n, columns]."""
    return np.concatenate([_row(example.encoded) for example in examples])


def _row(encoded: EncodedSteps) -> Floats:
    """Features of steps, events by time, and the mean of the units weighted by their time."""
    busy_s = encoded.busy_s[:, None]
    shares = (encoded.seconds.sum(axis=2) / busy_s.T)[:, :, None]  # [U, n, 1]
    units = (shares * encoded.nodes).sum(axis=0)
    return np.concatenate([encoded.steps, encoded.events / busy_s, units], axis=1)
