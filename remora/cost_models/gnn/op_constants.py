"""What a kind of device adds around the operators, as medians over the training runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.roofline import roofline_optimizer_time_s
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.hardware.measurements import Overheads

__all__ = ["HostConstants", "fit_constants"]


@dataclass(frozen=True, slots=True)
class HostConstants:
    """Constants of one type of device.

    Attributes:
        overheads: medians over the training runs.
        optimizer_launches: factor on the launches of the roofline's optimizer step.
        optimizer_traffic: factor on its traffic.
    """

    overheads: Overheads
    optimizer_launches: float
    optimizer_traffic: float

    def optimizer_s(self, graph: ModelGraph, hardware: Hardware, optimizer: str) -> float:
        """Return seconds of one optimizer step over all parameters."""
        launches_s, traffic_s = _optimizer_parts(graph, hardware, optimizer)
        return self.optimizer_launches * launches_s + self.optimizer_traffic * traffic_s

    def as_dict(self) -> dict[str, Any]:
        """The constants as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HostConstants:
        """Read what :meth:`as_dict` returned."""
        return cls(**{**values, "overheads": Overheads(**values["overheads"])})


def fit_constants(runs: Sequence[ProfiledRun]) -> dict[str, HostConstants]:
    """Return the constants of every type of device in the runs, by type."""
    by_type: dict[str, list[ProfiledRun]] = {}
    for run in runs:
        by_type.setdefault(run.setting.hardware.device_type, []).append(run)
    return {device: _fit(found) for device, found in sorted(by_type.items())}


def _fit(runs: Sequence[ProfiledRun]) -> HostConstants:
    launches, traffic = _fit_optimizer(runs)
    # Steps that were measured while planning come without anything around them.
    whole = [run for run in runs if run.units] or runs
    overheads = [run.measurements.overheads for run in whole]
    return HostConstants(
        overheads=Overheads(
            forward_op_s=_median(overheads, lambda o: o.forward_op_s),
            backward_op_s=_median(overheads, lambda o: o.backward_op_s),
            saved_tensor_s=_median(overheads, lambda o: o.saved_tensor_s),
            recorded_op_s=_median(overheads, lambda o: o.recorded_op_s),
            compress_bytes_per_s=_median_above_0(overheads, lambda o: o.compress_bytes_per_s),
            restore_bytes_per_s=_median_above_0(overheads, lambda o: o.restore_bytes_per_s),
        ),
        optimizer_launches=launches,
        optimizer_traffic=traffic,
    )


_Read = Callable[[Overheads], float]


def _median(overheads: Sequence[Overheads], read: _Read) -> float:
    return statistics.median(read(o) for o in overheads)


def _median_above_0(overheads: Sequence[Overheads], read: _Read) -> float:
    """Median of what was measured at all."""
    return statistics.median([read(o) for o in overheads if read(o) > 0] or [0.0])


def _fit_optimizer(runs: Sequence[ProfiledRun]) -> tuple[float, float]:
    """Factors, not negative, with the least squares of relative errors."""
    import scipy.optimize

    rows = []
    for run in runs:
        measurements = run.measurements
        parts = _optimizer_parts(run.graph, run.setting.hardware, measurements.optimizer)
        if measurements.optimizer_s > 0 and sum(parts) > 0:
            rows.append([part_s / measurements.optimizer_s for part_s in parts])
    if not rows:
        return 1.0, 1.0
    factors, _ = scipy.optimize.nnls(np.array(rows), np.ones(len(rows)))
    return float(factors[0]), float(factors[1])


def _optimizer_parts(graph: ModelGraph, hardware: Hardware, optimizer: str) -> tuple[float, float]:
    """Seconds of the roofline's launches and of its traffic."""
    whole_s = roofline_optimizer_time_s(graph, hardware, optimizer)
    traffic_s = roofline_optimizer_time_s(graph, replace(hardware, kernel_launch_s=0.0), optimizer)
    return whole_s - traffic_s, traffic_s
