"""Gradient-boosted trees on the features of the network, one operator at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.gnn.op_context import storage_ends
from remora.cost_models.gnn.op_examples import unit_examples
from remora.cost_models.gnn.op_features import OP_FEATURES, UnitFeatures, encode_unit
from remora.cost_models.gnn.op_times import OpTimes
from remora.errors import InvalidInputError, MissingExtraError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware

__all__ = ["TreeTimes", "fit_trees"]

_MOST_NAMES = 250
"""Trees take at most 255 categories; rarer names count as unknown."""


class TreeTimes:
    """Boosted trees that predict the logarithm of time over roofline.

    Args:
        regressor: of scikit-learn, fitted.
        names: category of every base name.
    """

    def __init__(self, regressor: Any, names: dict[str, int]) -> None:
        self._regressor = regressor
        self._names = names

    def op_times_s(self, graph: ModelGraph, hardware: Hardware) -> OpTimes:
        """Predict all operators of a graph on a device."""
        ends = storage_ends(graph)
        first = {unit.kind: unit for unit in reversed(graph.units)}
        by_kind = {
            kind: self.unit_times_s(encode_unit(graph, unit, ends, hardware))
            for kind, unit in first.items()
        }
        times_s = np.zeros(len(graph.ops))
        for unit in graph.units:
            times_s[[*range(*unit.forward), *range(*unit.backward)]] = by_kind[unit.kind]
        return OpTimes.only(times_s)

    def unit_times_s(self, features: UnitFeatures) -> NDArray[np.float64]:
        """Predict the operators of one unit.  # [N]."""
        told = self._regressor.predict(_columns(features, self._names))
        return np.asarray(_roofline_s(features) * np.exp(told))


def fit_trees(runs: Sequence[ProfiledRun], seed: int = 0, iterations: int = 400) -> TreeTimes:
    """Fit the trees.

    Args:
        runs: with measured units.
        seed: of the binning.
        iterations: number of trees.

    Raises:
        InvalidInputError: no run has a measured unit.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("sklearn", "bench", "the baseline of boosted trees") from error
    examples = unit_examples(runs)
    if not examples:
        raise InvalidInputError(f"runs has {len(runs)} runs, allowed: some with measured units")
    counts: dict[str, int] = {}
    for example in examples:
        for name in example.features.names:
            counts[name] = counts.get(name, 0) + 1
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_NAMES]
    names = {name: i for i, name in enumerate(sorted(frequent))}
    columns, targets, weights = [], [], []
    for example in examples:
        there = np.isfinite(example.steady_s)
        times_s = example.steady_s[there]
        columns.append(_columns(example.features, names)[there])
        targets.append(np.log(times_s / _roofline_s(example.features)[there]))
        weights.append(0.5 * times_s / times_s.sum() + 0.5 / len(times_s))
    width = len(OP_FEATURES)
    regressor = HistGradientBoostingRegressor(
        max_iter=iterations,
        learning_rate=0.08,
        categorical_features=[width, width + 1],
        early_stopping=False,
        random_state=seed,
    )
    regressor.fit(np.concatenate(columns), np.concatenate(targets), np.concatenate(weights))
    return TreeTimes(regressor, names)


def _columns(features: UnitFeatures, names: dict[str, int]) -> NDArray[np.float64]:
    """Features, name and group; a name that was not seen is missing.  # [N, F + 2]."""
    name = np.array([names.get(name, np.nan) for name in features.names])
    return np.column_stack([features.nodes, name, features.classes])


def _roofline_s(features: UnitFeatures) -> NDArray[np.float64]:
    return np.asarray(np.maximum(features.arithmetic_s, features.traffic_s) + features.launch_s)
