"""Sizes of operators that work on rows: reductions, norms, transforms, copies, look-ups."""

from __future__ import annotations

import math

from remora.cost_models.gnn.op_shapes import OpShape, whole_list
from remora.graph.model_graph import Op, TensorView

__all__ = [
    "along",
    "batch_norm",
    "by_size",
    "fft",
    "group_norm",
    "layer_norm",
    "piece",
    "pool",
    "reduction",
    "repeat",
    "table",
]

_Tensors = list[TensorView]


def fft(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of a Fourier transform over some dimensions."""
    larger = max((inputs[0], outputs[0]), key=lambda view: math.prod(view.shape))
    dims = whole_list(op.args[1])
    points = math.prod(larger.shape[d] for d in dims)
    numel = math.prod(larger.shape)
    # A transform of N points takes 5 N log2 N operations, of real ones half as many.
    flops = 5.0 * numel * math.log2(max(points, 2)) * (1.0 if "c2c" in op.name else 0.5)
    return OpShape(
        flops=max(op.flops, flops),
        kernel=len(dims),
        row=points,
        rows=numel // max(points, 1),
        inner=any(larger.stride[d] == 1 for d in dims),
    )


def along(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of what works along one dimension, such as a softmax or a running sum."""
    view = inputs[0]
    dims = [a for a in op.args if isinstance(a, int) and not isinstance(a, bool)]
    return _rows(op, view, dims[:1] or [-1])


def reduction(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of a sum, mean or maximum over some dimensions, all if none is named."""
    view = inputs[0]
    dims = whole_list(op.args[1]) if len(op.args) > 1 else []
    return _rows(op, view, dims or list(range(len(view.shape))))


def layer_norm(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of a normalisation over the last dimensions."""
    lists = [a for a in op.args if whole_list(a)]
    count = len(whole_list(lists[0])) if lists else 1
    return _rows(op, inputs[0], [-d - 1 for d in range(count)])


def batch_norm(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of a normalisation over everything but channels."""
    view = inputs[0]
    return _rows(op, view, [d for d in range(len(view.shape)) if d != 1])


def group_norm(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of a normalisation over groups of channels."""
    samples, channels, points, groups = [a for a in op.args if type(a) is int][:4]
    row = channels * points // max(groups, 1)
    return OpShape(op.flops, row=row, rows=samples * groups, inner=True, groups=groups, grid=points)


def pool(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of a pool: its window and what it slides over."""
    windows = [whole_list(a) for a in op.args if whole_list(a)]
    kernel = math.prod(windows[0]) if windows else 1
    stride = math.prod(windows[1]) if len(windows) > 1 else kernel
    image = max((*inputs, *outputs), key=lambda view: math.prod(view.shape)).shape
    return OpShape(
        op.flops, kernel=kernel, stride=stride, grid=math.prod(image[2:]), rows=math.prod(image[:2])
    )


def piece(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of what is copied as one piece into, or together with, a larger tensor."""
    view = inputs[0]
    dims = [a for a in op.args if type(a) is int][:1] or [0]
    dim = dims[0] % max(len(outputs[0].shape), 1)
    row = math.prod(view.shape[dim:])
    return OpShape(op.flops, row=row, rows=math.prod(view.shape) // max(row, 1), inner=True)


def repeat(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of what stands together in the repeated tensor as it does in the input."""
    times = whole_list(op.args[1])
    shape = (1,) * (len(times) - len(inputs[0].shape)) + inputs[0].shape
    row = 1
    for size, copies in zip(reversed(shape), reversed(times), strict=True):
        if copies != 1:
            break
        row *= size
    numel = math.prod(outputs[0].shape)
    return OpShape(
        op.flops, row=row, rows=numel // max(row, 1), inner=True, kernel=math.prod(times)
    )


def table(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of rows that are looked up in a table, or added to it."""
    indices = [view for view in inputs if view.dtype.startswith("int")]
    count = math.prod(indices[0].shape) if indices else 1
    table = math.prod((outputs[0] if "backward" in op.name else inputs[0]).shape)
    values = math.prod(max((*inputs, *outputs), key=lambda v: v.shape).shape)
    row = max(1, math.prod(outputs[0].shape) // max(count, 1))
    if "backward" in op.name:
        row = max(1, math.prod(inputs[0].shape) // max(count, 1))
    return OpShape(op.flops, row=row, rows=count, inner=True, m=table, n=values)


def by_size(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Rows of the last dimension of the result."""
    views = outputs or inputs
    if not views or not views[0].shape:
        return OpShape(op.flops, row=1, rows=1, inner=True)
    view = views[0]
    numel = math.prod(view.shape)
    return OpShape(
        op.flops,
        row=view.shape[-1],
        rows=numel // max(view.shape[-1], 1),
        inner=view.stride[-1] == 1,
    )


def _rows(op: Op, view: TensorView, dims: list[int]) -> OpShape:
    rank = len(view.shape)
    if not rank:
        return OpShape(op.flops, row=1, rows=1, inner=True)
    chosen = {d % rank for d in dims if -rank <= d < rank}
    row = math.prod(view.shape[d] for d in chosen)
    inner = any(view.stride[d] == 1 and view.shape[d] > 1 for d in chosen)
    return OpShape(op.flops, row=row, rows=math.prod(view.shape) // max(row, 1), inner=inner)
