"""Costs from arithmetic and memory traffic alone: nothing is measured, so it always works.

An operator takes the longer of its arithmetic at the matrix rate and its traffic at the memory
bandwidth (Williams, Waterman, Patterson 2009), plus the launch of one kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

from remora.cost_models.collectives import collective_time_s
from remora.graph.model_graph import COLLECTIVES, GRADIENT, PARAMETER, ModelGraph, Op
from remora.graph.signature import op_signature
from remora.hardware.hardware import Hardware, rate_name
from remora.schedule.problem import CostTable

__all__ = [
    "allocation_granularity_bytes",
    "host_rates",
    "op_workspaces",
    "roofline_costs",
    "roofline_host_optimizer_time_s",
    "roofline_op_time_s",
    "roofline_optimizer_time_s",
]

MATRIX_EFFICIENCY = 0.7
"""Share of the matrix rate that products of a model's sizes reach, tails and layouts included."""

BANDWIDTH_EFFICIENCY = 0.8
"""Share of the copy bandwidth that elementwise operators and reductions reach."""

HOST_BANDWIDTH_BYTES_PER_S = 2e10
"""Guess of the host memory bandwidth that one rank has for an optimizer step on the host: eight
ranks of a node share two sockets of about 200 GB/s each, and get less than half of it."""

_CUDA_BLOCK_BYTES = 512
_HALF_RATE_DTYPES = ("float64", "complex128")

# Passes over a storage while blocks of it are quantised, operator by operator: extremes 1,
# quotient 2, mending 2, signs 2, rounding 2, sum 3, clamping 2, conversion 1. And back:
# conversion 1, signs 1, difference 2, product 2.
_COMPRESS_PASSES = 15
_RESTORE_PASSES = 6

# Passes over tensors of a parameter's size that torch.optim makes in one step, reads and writes
# together. AdamW: decay 2, first moment 3, second moment 2 + 4, its root 2, quotient 2, sum 2,
# update 4. Momentum: 2 + 3 for the buffer, 3 for the parameter. With float32 master weights of
# half as long parameters AdamW's passes count twice, and gradients (1 + 2) and parameters (2 + 1)
# are converted.
_OPTIMIZER_PASSES: Mapping[str, int] = {
    "adamw": 21,
    "adamw_master": 48,
    "adam": 19,
    "sgd_momentum": 8,
    "sgd": 3,
    "none": 0,
}
_OPTIMIZER_KERNELS: Mapping[str, int] = {
    "adamw": 8,
    "adamw_master": 10,
    "adam": 7,
    "sgd_momentum": 3,
    "sgd": 1,
    "none": 0,
}


def roofline_costs(
    graph: ModelGraph,
    hardware: Hardware,
    optimizer: str = "adamw",
    workspaces: Mapping[str, int] | None = None,
) -> CostTable:
    """Return costs of ``graph`` on ``hardware`` without running anything.

    Args:
        graph: the traced step.
        hardware: rates of one device.
        optimizer: name of the optimizer, a key of ``OPTIMIZERS``.
        workspaces: known bytes by operator signature (``graph.signature``); others take none.
    """
    d2h_bytes_per_s, h2d_bytes_per_s = host_rates(hardware)
    bandwidth_bytes_per_s = BANDWIDTH_EFFICIENCY * hardware.memory_bandwidth_bytes_per_s
    return CostTable(
        source="roofline",
        op_time_s=tuple(roofline_op_time_s(graph, op, hardware) for op in graph.ops),
        op_workspace_bytes=op_workspaces(graph, workspaces or {}),
        d2h_bytes_per_s=d2h_bytes_per_s,
        h2d_bytes_per_s=h2d_bytes_per_s,
        copy_latency_s=hardware.host.latency_s,
        optimizer_time_s=roofline_optimizer_time_s(graph, hardware, optimizer),
        allocation_granularity_bytes=allocation_granularity_bytes(hardware),
        compress_bytes_per_s=bandwidth_bytes_per_s / _COMPRESS_PASSES,
        restore_bytes_per_s=bandwidth_bytes_per_s / _RESTORE_PASSES,
        host_optimizer_time_s=roofline_host_optimizer_time_s(graph, hardware, optimizer),
    )


def roofline_op_time_s(graph: ModelGraph, op: Op, hardware: Hardware) -> float:
    """Return seconds of one operator; views take none, collectives those of the links.

    Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for
    multicore architectures", 2009; the time is the larger of arithmetic and traffic, and a launch.

    Args:
        graph: the traced step.
        op: one of its operators.
        hardware: rates of one device.
    """
    if op.view:
        return 0.0
    if op.name in COLLECTIVES:
        return collective_time_s(graph, op, hardware)
    arithmetic_s = op.flops / (MATRIX_EFFICIENCY * _flops_per_s(graph, op, hardware))
    num_bytes = op.bytes_read + op.bytes_written
    traffic_s = num_bytes / (BANDWIDTH_EFFICIENCY * hardware.memory_bandwidth_bytes_per_s)
    return max(arithmetic_s, traffic_s) + hardware.kernel_launch_s


def roofline_optimizer_time_s(graph: ModelGraph, hardware: Hardware, optimizer: str) -> float:
    """Return seconds of one optimizer step: its traffic and its kernels, one tensor at a time.

    Args:
        graph: its parameters with gradients are updated.
        hardware: rates of one device.
        optimizer: a key of ``OPTIMIZERS``.
    """
    trained = {s.name for s in graph.storages if s.role == GRADIENT}
    kernels = _OPTIMIZER_KERNELS[optimizer] * len(trained)
    bandwidth_bytes_per_s = hardware.memory_bandwidth_bytes_per_s
    return _step_traffic_s(graph, optimizer, bandwidth_bytes_per_s) + (
        kernels * hardware.kernel_launch_s
    )


def roofline_host_optimizer_time_s(graph: ModelGraph, hardware: Hardware, optimizer: str) -> float:
    """Return seconds of one optimizer step on the host.

    On a CPU the host is the device. Elsewhere nothing is known of the host's memory, and
    :data:`HOST_BANDWIDTH_BYTES_PER_S` is taken.

    Args:
        graph: its parameters with gradients are updated.
        hardware: rates of one device.
        optimizer: a key of ``OPTIMIZERS``.
    """
    if hardware.device_type == "cpu":
        return roofline_optimizer_time_s(graph, hardware, optimizer)
    return _step_traffic_s(graph, optimizer, HOST_BANDWIDTH_BYTES_PER_S)


def _step_traffic_s(graph: ModelGraph, optimizer: str, bandwidth_bytes_per_s: float) -> float:
    trained = {s.name for s in graph.storages if s.role == GRADIENT}
    num_bytes = sum(
        s.num_bytes for s in graph.storages if s.role == PARAMETER and s.name in trained
    )
    traffic_bytes = _OPTIMIZER_PASSES[optimizer] * num_bytes
    return traffic_bytes / (BANDWIDTH_EFFICIENCY * bandwidth_bytes_per_s)


def op_workspaces(graph: ModelGraph, workspaces: Mapping[str, int]) -> tuple[int, ...]:
    """Return the known workspace of every operator, 0 where it is not known.  # [num_ops].

    Args:
        graph: the traced step.
        workspaces: bytes by operator signature (``graph.signature``).
    """
    if not workspaces:
        return (0,) * len(graph.ops)
    return tuple(0 if op.view else workspaces.get(op_signature(graph, op), 0) for op in graph.ops)


def host_rates(hardware: Hardware) -> tuple[float, float]:
    """Return live bytes per second to the host and back, for a rank with the link to itself."""
    share = hardware.state.host_link_share if hardware.state is not None else 1.0
    return hardware.host.d2h_bytes_per_s * share, hardware.host.h2d_bytes_per_s * share


def allocation_granularity_bytes(hardware: Hardware) -> int:
    """Return what PyTorch's allocator rounds blocks up to: CPU blocks are exact."""
    return _CUDA_BLOCK_BYTES if hardware.device_type == "cuda" else 1


def _flops_per_s(graph: ModelGraph, op: Op, hardware: Hardware) -> float:
    """Return the matrix rate of the operator's first floating tensor."""
    for tensor in (*op.inputs, *op.outputs):
        dtype = rate_name(graph.tensors[tensor].dtype)
        if dtype in hardware.flops_per_s:
            return hardware.flops_per_s[dtype]
        if dtype in _HALF_RATE_DTYPES:
            return hardware.flops_per_s["float32"] / 2
    return hardware.flops_per_s["float32"]
