"""A cost table from predicted operator times, put together as one from measured times is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remora.cost_models.gnn.op_constants import HostConstants
from remora.cost_models.roofline import roofline_costs
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.problem import CostTable

__all__ = ["SOURCE", "predicted_costs"]

SOURCE = "gnn"

_LEAST_SHARE = 0.1
"""An operator keeps at least this share of its predicted time, whatever the overheads say."""


def predicted_costs(
    graph: ModelGraph,
    hardware: Hardware,
    optimizer: str,
    times_s: Sequence[float],
    workspace_bytes: Sequence[int],
    constants: HostConstants | None,
) -> CostTable:
    """Return the cost table of a graph.

    Args:
        graph: the traced step.
        hardware: rates of the device.
        optimizer: name of the optimizer, a key of ``OPTIMIZERS``.
        times_s: predicted seconds of bare operators.  # [num_ops]
        workspace_bytes: predicted bytes beyond the results.  # [num_ops]
        constants: of this type of device; None leaves everything else to the roofline.
    """
    base = replace(roofline_costs(graph, hardware, optimizer), source=SOURCE)
    if constants is None:
        return replace(base, op_time_s=tuple(times_s), op_workspace_bytes=tuple(workspace_bytes))
    overheads = constants.overheads
    optimizer_s = constants.optimizer_s(graph, hardware, optimizer)
    host_is_device = hardware.device_type == "cpu"
    return replace(
        base,
        op_time_s=_with_overheads(graph, times_s, overheads.forward_op_s, overheads.backward_op_s),
        op_workspace_bytes=tuple(workspace_bytes),
        optimizer_time_s=optimizer_s,
        saved_tensor_overhead_s=overheads.saved_tensor_s,
        recorded_op_overhead_s=overheads.recorded_op_s,
        compress_bytes_per_s=overheads.compress_bytes_per_s or base.compress_bytes_per_s,
        restore_bytes_per_s=overheads.restore_bytes_per_s or base.restore_bytes_per_s,
        host_optimizer_time_s=optimizer_s if host_is_device else base.host_optimizer_time_s,
    )


def _with_overheads(
    graph: ModelGraph, times_s: Sequence[float], forward_op_s: float, backward_op_s: float
) -> tuple[float, ...]:
    """Add the host's overhead to every operator.  # [num_ops]."""
    return tuple(
        max(
            time_s + (forward_op_s if index < graph.num_forward_ops else backward_op_s),
            _LEAST_SHARE * time_s,
        )
        for index, time_s in enumerate(times_s)
    )
