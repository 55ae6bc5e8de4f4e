"""The operator graph of one unit as numbers: logarithms of physical quantities, never identities.

Legend: N operators of a unit (its forward, then its backward), E edges between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.gnn.op_classes import CLASSES, base_name, op_class
from remora.cost_models.gnn.op_context import CONTEXT_FEATURES, unit_context
from remora.cost_models.gnn.op_layouts import LAYOUT_FEATURES, layout_features
from remora.cost_models.gnn.op_shape_readers import op_shape
from remora.cost_models.gnn.op_shapes import SHAPE_FEATURES, blocked_weight, shape_features
from remora.graph.kinds import dtype_bytes
from remora.graph.model_graph import ModelGraph, Op, Unit
from remora.hardware.hardware import Hardware, rate_name

__all__ = ["OP_FEATURES", "UnitFeatures", "arithmetic_rate", "encode_unit", "unit_ops"]

_WORK_FEATURES = (
    "log_arithmetic_launches",
    "log_traffic_launches",
    "log_intensity",
    "log_bytes_read",
    "log_bytes_written",
    "log_flops_per_s",
    "log_bandwidth",
    "log_launch",
    "on_cuda",
    "approximate",
)
OP_FEATURES = (*_WORK_FEATURES, *SHAPE_FEATURES, *LAYOUT_FEATURES, *CONTEXT_FEATURES)
"""Columns of :attr:`UnitFeatures.nodes`."""

_UNTOUCHED = ("empty", "view")
"""Groups that move none of the bytes of their tensors."""

_LOOKS_UP = ("gather",)
_INDEX_BYTES = 16
"""Of one index, and of the number that is read where the results are summed."""


@dataclass(frozen=True, slots=True)
class UnitFeatures:
    """One unit for the network, the trees and the rooflines.

    Attributes:
        names: base name of every operator.  # [N]
        classes: index into ``CLASSES``.  # [N]
        nodes: # [N, len(OP_FEATURES)]
        arithmetic_s: at the peak rate of the operator's type.  # [N]
        traffic_s: at the bandwidth of the device's memory.  # [N]
        launch_s: of one kernel.
        tensor_bytes: of all inputs and results together.  # [N]
        weight_bytes: of a second factor whose channels are filled up to whole blocks.  # [N]
        backward: whether an operator belongs to the backward.  # [N]
        edge_index: source and target of every edge.  # [2, E]
        edge_type: index into ``EDGE_TYPES``.  # [E]
    """

    names: tuple[str, ...]
    classes: NDArray[np.int64]
    nodes: NDArray[np.float32]
    arithmetic_s: NDArray[np.float64]
    traffic_s: NDArray[np.float64]
    launch_s: float
    tensor_bytes: NDArray[np.float64]
    weight_bytes: NDArray[np.float64]
    backward: NDArray[np.bool_]
    edge_index: NDArray[np.int64]
    edge_type: NDArray[np.int64]


def encode_unit(
    graph: ModelGraph, unit: Unit, ends: Sequence[int], hardware: Hardware
) -> UnitFeatures:
    """Describe the operators of ``unit`` on ``hardware``.

    Args:
        graph: the traced step.
        unit: one of its units.
        ends: of ``storage_ends(graph)``.
        hardware: rates of the device.
    """
    context = unit_context(graph, unit, ends)
    ops = unit_ops(graph, unit)
    classes = [op_class(graph, op) for op in ops]
    work = [_work(graph, op, kind, hardware) for op, kind in zip(ops, classes, strict=True)]
    edges = np.array(context.edges, dtype=np.int64).reshape(-1, 3)  # [E, 3]
    return UnitFeatures(
        names=tuple(base_name(op) for op in ops),
        classes=np.array([CLASSES.index(kind) for kind in classes], dtype=np.int64),
        nodes=np.array(
            [w.features + c for w, c in zip(work, context.features, strict=True)], dtype=np.float32
        ).reshape(-1, len(OP_FEATURES)),
        arithmetic_s=np.array([w.arithmetic_s for w in work]),
        traffic_s=np.array([w.traffic_s for w in work]),
        launch_s=hardware.kernel_launch_s,
        tensor_bytes=np.array([_tensor_bytes(graph, op) for op in ops]),
        weight_bytes=np.array([w.weight_bytes for w in work]),
        backward=np.arange(len(ops)) >= unit.forward[1] - unit.forward[0],
        edge_index=edges[:, :2].T.copy(),
        edge_type=edges[:, 2].copy(),
    )


def unit_ops(graph: ModelGraph, unit: Unit) -> list[Op]:
    """Return the operators of a unit, forward before backward.  # [N]."""
    return [graph.ops[i] for i in (*range(*unit.forward), *range(*unit.backward))]


def arithmetic_rate(graph: ModelGraph, op: Op, hardware: Hardware) -> float:
    """Return FLOP/s of the operator's first floating tensor; float32's where there is none."""
    for tensor in (*op.inputs, *op.outputs):
        dtype = rate_name(graph.tensors[tensor].dtype)
        if dtype in hardware.flops_per_s:
            return hardware.flops_per_s[dtype]
        if dtype in ("float64", "complex128"):
            return hardware.flops_per_s["float32"] / 2
    return hardware.flops_per_s["float32"]


def _tensor_bytes(graph: ModelGraph, op: Op) -> float:
    views = [graph.tensors[t] for t in {*op.inputs, *op.outputs}]
    return float(sum(math.prod(view.shape) * dtype_bytes(view.dtype) for view in views))


@dataclass(frozen=True, slots=True)
class _Work:
    features: list[float]
    arithmetic_s: float
    traffic_s: float
    weight_bytes: float


def _work(graph: ModelGraph, op: Op, kind: str, hardware: Hardware) -> _Work:
    """Describe one operator apart from what surrounds it."""
    shape = op_shape(graph, op)
    touched = kind not in _UNTOUCHED
    flops = shape.flops if touched else 0.0
    read, written = (op.bytes_read, op.bytes_written) if touched else (0, 0)
    if kind in _LOOKS_UP:
        # Of a table only the rows that are asked for.
        read = min(read, written + shape.rows * _INDEX_BYTES)
    rate = arithmetic_rate(graph, op, hardware)
    bandwidth = hardware.memory_bandwidth_bytes_per_s
    arithmetic_s, traffic_s = flops / rate, (read + written) / bandwidth
    launch_s = hardware.kernel_launch_s
    features = [
        math.log1p(arithmetic_s / launch_s),
        math.log1p(traffic_s / launch_s),
        math.log1p(flops / max(read + written, 1)),
        math.log1p(read),
        math.log1p(written),
        math.log(rate),
        math.log(bandwidth),
        math.log(launch_s),
        float(hardware.device_type == "cuda"),
        float(("approximate", "tanh") in op.kwargs),
    ]
    features += shape_features(shape) + layout_features(graph, op)
    dtypes = [graph.tensors[tensor].dtype for tensor in (*op.inputs, *op.outputs)]
    element_bytes = dtype_bytes(dtypes[0]) if dtypes else 0
    weight_bytes = float(blocked_weight(shape) * element_bytes)
    return _Work(features, arithmetic_s, traffic_s, weight_bytes)
