"""The roofline as it is, and with the few constants it has fitted to measured operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.gnn.op_classes import CLASSES
from remora.cost_models.gnn.op_context import storage_ends
from remora.cost_models.gnn.op_examples import UnitExample, unit_examples
from remora.cost_models.gnn.op_features import UnitFeatures, encode_unit
from remora.cost_models.gnn.op_times import OpTimes
from remora.cost_models.roofline import roofline_op_time_s
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware

__all__ = ["FittedRoofline", "Roofline", "fit_roofline"]


class Roofline:
    """The roofline without any measurement."""

    def op_times_s(self, graph: ModelGraph, hardware: Hardware) -> OpTimes:
        """Predict all operators of a graph on a device."""
        return OpTimes.only(np.array([roofline_op_time_s(graph, op, hardware) for op in graph.ops]))


@dataclass(frozen=True, slots=True)
class FittedRoofline:
    """A roofline with fitted constants.

    Attributes:
        arithmetic: share of the peak rate that arithmetic reaches.
        traffic: share of the memory's bandwidth that traffic reaches.
        launch: launches that an operator takes.
        view: launches that a view takes.
    """

    arithmetic: float
    traffic: float
    launch: float
    view: float

    def op_times_s(self, graph: ModelGraph, hardware: Hardware) -> OpTimes:
        """Predict all operators of a graph on a device."""
        ends = storage_ends(graph)
        times_s = np.zeros(len(graph.ops))
        by_kind: dict[str, NDArray[np.float64]] = {}
        for unit in graph.units:
            if unit.kind not in by_kind:
                by_kind[unit.kind] = self.unit_times_s(encode_unit(graph, unit, ends, hardware))
            times_s[[*range(*unit.forward), *range(*unit.backward)]] = by_kind[unit.kind]
        return OpTimes.only(times_s)

    def unit_times_s(self, features: UnitFeatures) -> NDArray[np.float64]:
        """Predict the operators of one unit.  # [N]."""
        work_s = np.maximum(
            features.arithmetic_s / self.arithmetic, features.traffic_s / self.traffic
        )
        is_view = features.classes == CLASSES.index("view")
        launches = np.where(is_view, self.view, self.launch)
        return np.asarray(work_s + launches * features.launch_s)


def fit_roofline(runs: Sequence[ProfiledRun]) -> FittedRoofline:
    """Fit the constants by least squares of logarithmic errors, weighted by shares of units.

    Args:
        runs: with measured units, all on one device.

    Raises:
        InvalidInputError: no run has a measured unit.
    """
    import scipy.optimize

    examples = unit_examples(runs)
    if not examples:
        raise InvalidInputError(f"runs has {len(runs)} runs, allowed: some with measured units")

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        model = FittedRoofline(*np.exp(logs).tolist())
        return np.concatenate([_residuals(model, example) for example in examples])

    start = np.log([0.7, 0.8, 2.0, 1.0])
    found = scipy.optimize.least_squares(residuals, start, loss="soft_l1", f_scale=0.3)
    return FittedRoofline(*np.exp(found.x).tolist())


def _residuals(model: FittedRoofline, example: UnitExample) -> NDArray[np.float64]:
    """Logarithmic errors of the measured operators, each by the root of its weight."""
    there = np.isfinite(example.steady_s)
    times_s = example.steady_s[there]
    told_s = model.unit_times_s(example.features)[there]
    return np.asarray(np.log(told_s / times_s) * np.sqrt(times_s / times_s.sum()))
