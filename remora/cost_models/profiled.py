"""Costs from operators that ran on the device at hand, with the roofline where none could."""

from __future__ import annotations

from dataclasses import replace

from remora.cost_models.roofline import roofline_costs
from remora.graph.model_graph import ModelGraph, Unit
from remora.hardware.hardware import Hardware
from remora.hardware.measurements import Measurements
from remora.schedule.problem import CostTable

__all__ = ["profiled_costs"]

_LEAST_SHARE = 0.1
"""An operator keeps at least this share of its measured time, whatever the overheads say."""


def profiled_costs(graph: ModelGraph, hardware: Hardware, measurements: Measurements) -> CostTable:
    """Turn measurements into a cost table.

    Every unit takes the times of its kind, operator by operator, plus the host's overhead of
    each. Operators and units that were not measured keep the roofline's time.

    Args:
        graph: the traced step.
        hardware: rates for what was not measured and for host copies.
        measurements: what running this graph's operators showed.
    """
    base = roofline_costs(
        graph, hardware, measurements.optimizer, workspaces=measurements.workspace_bytes
    )
    overheads = measurements.overheads
    host_is_device = hardware.device_type == "cpu"
    times = list(base.op_time_s)
    for unit in graph.units:
        _fill_unit(times, unit, measurements)
    return replace(
        base,
        source="profiled",
        op_time_s=tuple(times),
        optimizer_time_s=measurements.optimizer_s,
        saved_tensor_overhead_s=overheads.saved_tensor_s,
        recorded_op_overhead_s=overheads.recorded_op_s,
        compress_bytes_per_s=overheads.compress_bytes_per_s or base.compress_bytes_per_s,
        restore_bytes_per_s=overheads.restore_bytes_per_s or base.restore_bytes_per_s,
        host_optimizer_time_s=(
            measurements.optimizer_s if host_is_device else base.host_optimizer_time_s
        ),
    )


def _fill_unit(times: list[float], unit: Unit, measurements: Measurements) -> None:
    """Overwrite the times of the unit's operators by measured ones."""
    measured = measurements.units.get(unit.kind)
    if measured is None:
        return
    overheads = measurements.overheads
    phases = (
        (unit.forward, measured.forward_op_s, overheads.forward_op_s),
        (unit.backward, measured.backward_op_s, overheads.backward_op_s),
    )
    for (start, end), op_times, overhead_s in phases:
        for index, time_s in zip(range(start, end), op_times, strict=True):
            if time_s is not None:
                times[index] = max(time_s + overhead_s, _LEAST_SHARE * time_s)
