"""What an operator computes, in sizes: products, convolutions, rows of reductions, indices.

A convolution is read as the matrix product it amounts to, an attention as its first one, so that
what is learned of one kind helps another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from remora.cost_models.gnn.op_classes import base_name
from remora.graph.model_graph import ModelGraph, Op, Spec, TensorView

__all__ = ["SHAPE_FEATURES", "OpShape", "blocked_weight", "op_shape", "shape_features"]


@dataclass(frozen=True, slots=True)
class OpShape:
    """Sizes of the work of one operator; 0 where they mean nothing.

    Attributes:
        flops: floating point operations, the trace's where no better figure is known.
        m, n, k, batch: of the matrix product: rows, columns, summed length, number of products.
        transposed: whether its first and second factor lie transposed.
        gaps: whether rows of the first and second factor lie apart.
        kernel: taps of a convolution's or pool's window.
        stride: product of its strides.
        dilation: product of its dilations.
        groups: of a convolution.
        grid: output points per sample.
        side: output points in the last direction.
        image_gradient: whether a convolution's backward makes the gradient of its input.
        raises: whether a convolution is a transposed one.
        row: length of what is reduced, normalised, transformed or copied as one piece.
        rows: how many of them there are.
        inner: whether such a piece lies densely in memory.
    """

    flops: float
    m: int = 0
    n: int = 0
    k: int = 0
    batch: int = 0
    transposed: tuple[bool, bool] = (False, False)
    gaps: tuple[bool, bool] = (False, False)
    kernel: int = 0
    stride: int = 0
    dilation: int = 0
    groups: int = 0
    grid: int = 0
    side: int = 0
    image_gradient: bool = False
    raises: bool = False
    row: int = 0
    rows: int = 0
    inner: bool = False


SHAPE_FEATURES = (
    "log_m",
    "log_n",
    "log_k",
    "log_product_batch",
    "whole_m",
    "whole_n",
    "whole_k",
    "transposed_first",
    "transposed_second",
    "gaps_first",
    "gaps_second",
    "log_kernel",
    "log_stride",
    "log_dilation",
    "log_groups",
    "log_grid",
    "log_side",
    "depthwise",
    "image_gradient",
    "raises",
    "log_weight",
    "log_blocked_weight",
    "filled_n",
    "filled_row",
    "filled_side",
    "eights_n",
    "eights_row",
    "log_row",
    "log_rows",
    "inner_rows",
    "whole_row",
)

_VECTOR = 16
"""Numbers of float32 in the widest vector of a CPU; oneDNN blocks channels by it."""


def shape_features(shape: OpShape) -> list[float]:
    """Return the sizes as numbers around 1.  # [len(SHAPE_FEATURES)]."""
    return [
        math.log1p(shape.m),
        math.log1p(shape.n),
        math.log1p(shape.k),
        math.log1p(shape.batch),
        _whole(shape.m),
        _whole(shape.n),
        _whole(shape.k),
        *map(float, shape.transposed),
        *map(float, shape.gaps),
        math.log1p(shape.kernel),
        math.log1p(shape.stride),
        math.log1p(shape.dilation),
        math.log1p(shape.groups),
        math.log1p(shape.grid),
        math.log1p(shape.side),
        float(shape.groups > 1 and shape.n == 1),
        float(shape.image_gradient),
        float(shape.raises),
        math.log1p(shape.batch * shape.n * shape.k),
        math.log1p(blocked_weight(shape)),
        _filled(shape.n),
        _filled(shape.row),
        _filled(shape.side),
        float(shape.n % 8 == 0),
        float(shape.row % 8 == 0),
        math.log1p(shape.row),
        math.log1p(shape.rows),
        float(shape.inner),
        _whole(shape.row),
    ]


def _whole(size: int) -> float:
    """Whether a size that means something fills whole vectors."""
    return float(size > 0 and size % _VECTOR == 0)


def op_shape(graph: ModelGraph, op: Op) -> OpShape:
    """Read the sizes of an operator's work off its arguments.

    Args:
        graph: the graph that ``op`` belongs to.
        op: one of its operators.
    """
    inputs = [graph.tensors[t] for t in op.inputs]
    outputs = [graph.tensors[t] for t in op.outputs]
    reader = _READERS.get(base_name(op))
    shape = reader(op, inputs, outputs) if reader is not None else None
    return shape if shape is not None else _by_size(op, inputs, outputs)


def _filled(size: int) -> float:
    """Share of the lanes that a size keeps busy, the last vector included."""
    return size / (-(-size // _VECTOR) * _VECTOR) if size else 0.0


def blocked_weight(shape: OpShape) -> int:
    """Numbers of the second factor where both its channels are filled up to whole blocks."""
    taps = max(shape.kernel, 1)
    channels = shape.k // taps
    blocks = -(-shape.n // _VECTOR) * -(-channels // _VECTOR)
    return shape.batch * taps * blocks * _VECTOR**2


_Tensors = list[TensorView]


def _product(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape | None:
    """Sizes of ``mm``, ``bmm`` and those that add something to a product."""
    a, b = inputs[-2:]
    if len(a.shape) < 2 or len(b.shape) < 2:
        return None
    return OpShape(
        flops=op.flops,
        m=a.shape[-2],
        k=a.shape[-1],
        n=b.shape[-1],
        batch=math.prod(a.shape[:-2]),
        transposed=(_lies_transposed(a), _lies_transposed(b)),
        gaps=(_has_gaps(a), _has_gaps(b)),
        row=b.shape[-1],
        rows=math.prod(a.shape[:-1]),
        inner=True,
    )


def _lies_transposed(view: TensorView) -> bool:
    return view.stride[-1] != 1 and view.stride[-2] == 1


def _has_gaps(view: TensorView) -> bool:
    """Whether the longer of the last two strides skips numbers of other tensors."""
    rows, columns = view.shape[-2:]
    length = rows if _lies_transposed(view) else columns
    return max(view.stride[-2:]) > max(length, 1)


def _convolution(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    return _convolution_shape(op, inputs[0], inputs[1], outputs[0], 3, image_gradient=False)


def _convolution_backward(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    grad, image, weight = inputs[:3]
    mask = op.args[-1]
    gradient = bool(mask[1][0]) if isinstance(mask, list | tuple) else True
    return _convolution_shape(op, image, weight, grad, 4, gradient)


def _convolution_shape(
    op: Op,
    image: TensorView,
    weight: TensorView,
    result: TensorView,
    strides_at: int,
    image_gradient: bool,
) -> OpShape:
    groups = next((a for a in reversed(op.args) if isinstance(a, int)), 1)
    groups = max(1, int(groups))
    kernel = math.prod(weight.shape[2:])
    # Of a transposed convolution the roles of image and result are exchanged.
    points = min(math.prod(image.shape[2:]), math.prod(result.shape[2:]))
    m, n, k = image.shape[0] * points, max(1, weight.shape[0] // groups), weight.shape[1] * kernel
    gradients = 1 if strides_at == 3 else 1 + image_gradient
    return OpShape(
        flops=2.0 * gradients * groups * m * n * k,
        m=m,
        n=n,
        k=k,
        batch=groups,
        kernel=kernel,
        stride=math.prod(_whole_list(op.args[strides_at])),
        dilation=math.prod(_whole_list(op.args[strides_at + 2])),
        groups=groups,
        grid=points,
        side=min(image.shape[-1], result.shape[-1]),
        image_gradient=image_gradient,
        raises=op.args[strides_at + 3] is True,
        row=weight.shape[1],
        rows=image.shape[0],
    )


def _attention(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    query, key = inputs[:2]
    return _attention_shape(op, query, key, products=2.0)


def _attention_backward(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    query, key = inputs[1:3]
    return _attention_shape(op, query, key, products=5.0)


def _attention_shape(op: Op, query: TensorView, key: TensorView, products: float) -> OpShape:
    batch = math.prod(query.shape[:-2])
    m, k = query.shape[-2:]
    n = key.shape[-2]
    causal = any(argument is True for argument in op.args)
    flops = products * 2.0 * batch * m * n * k * (0.5 if causal else 1.0)
    return OpShape(
        flops=max(op.flops, flops), m=m, n=n, k=k, batch=batch, row=n, rows=batch * m, inner=causal
    )


def _fft(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    larger = max((inputs[0], outputs[0]), key=lambda view: math.prod(view.shape))
    dims = _whole_list(op.args[1])
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


def _along(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of what works along one dimension, such as a softmax or a running sum."""
    view = inputs[0]
    dims = [a for a in op.args if isinstance(a, int) and not isinstance(a, bool)]
    return _rows(op, view, dims[:1] or [-1])


def _reduction(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    view = inputs[0]
    dims = _whole_list(op.args[1]) if len(op.args) > 1 else []
    return _rows(op, view, dims or list(range(len(view.shape))))


def _layer_norm(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    lists = [a for a in op.args if _whole_list(a)]
    count = len(_whole_list(lists[0])) if lists else 1
    return _rows(op, inputs[0], [-d - 1 for d in range(count)])


def _batch_norm(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    view = inputs[0]
    return _rows(op, view, [d for d in range(len(view.shape)) if d != 1])


def _group_norm(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    samples, channels, points, groups = [a for a in op.args if type(a) is int][:4]
    row = channels * points // max(groups, 1)
    return OpShape(op.flops, row=row, rows=samples * groups, inner=True, groups=groups, grid=points)


def _rows(op: Op, view: TensorView, dims: list[int]) -> OpShape:
    rank = len(view.shape)
    if not rank:
        return OpShape(op.flops, row=1, rows=1, inner=True)
    chosen = {d % rank for d in dims if -rank <= d < rank}
    row = math.prod(view.shape[d] for d in chosen)
    inner = any(view.stride[d] == 1 and view.shape[d] > 1 for d in chosen)
    return OpShape(op.flops, row=row, rows=math.prod(view.shape) // max(row, 1), inner=inner)


def _pool(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    windows = [_whole_list(a) for a in op.args if _whole_list(a)]
    kernel = math.prod(windows[0]) if windows else 1
    stride = math.prod(windows[1]) if len(windows) > 1 else kernel
    image = max((*inputs, *outputs), key=lambda view: math.prod(view.shape)).shape
    return OpShape(
        op.flops, kernel=kernel, stride=stride, grid=math.prod(image[2:]), rows=math.prod(image[:2])
    )


def _piece(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of what is copied as one piece into, or together with, a larger tensor."""
    view = inputs[0]
    dims = [a for a in op.args if type(a) is int][:1] or [0]
    dim = dims[0] % max(len(outputs[0].shape), 1)
    row = math.prod(view.shape[dim:])
    return OpShape(op.flops, row=row, rows=math.prod(view.shape) // max(row, 1), inner=True)


def _repeat(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of what stands together in the repeated tensor as it does in the input."""
    times = _whole_list(op.args[1])
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


def _table(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of rows that are looked up in a table, or added to it."""
    indices = [view for view in inputs if view.dtype.startswith("int")]
    count = math.prod(indices[0].shape) if indices else 1
    table = math.prod((outputs[0] if "backward" in op.name else inputs[0]).shape)
    values = math.prod(max((*inputs, *outputs), key=lambda v: v.shape).shape)
    row = max(1, math.prod(outputs[0].shape) // max(count, 1))
    if "backward" in op.name:
        row = max(1, math.prod(inputs[0].shape) // max(count, 1))
    return OpShape(op.flops, row=row, rows=count, inner=True, m=table, n=values)


def _by_size(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
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


def _whole_list(spec: Spec) -> list[int]:
    if isinstance(spec, list | tuple) and spec and spec[0] == "list":
        return [item for item in spec[1] if type(item) is int]
    return [spec] if type(spec) is int else []


_Reader = Callable[[Op, _Tensors, _Tensors], OpShape | None]

_READER_NAMES: Mapping[_Reader, str] = {
    _product: "mm addmm bmm baddbmm addbmm",
    _convolution: "convolution _convolution",
    _convolution_backward: "convolution_backward",
    _attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention",
    _attention_backward: "_scaled_dot_product_flash_attention_for_cpu_backward "
    "_scaled_dot_product_flash_attention_backward "
    "_scaled_dot_product_efficient_attention_backward "
    "_scaled_dot_product_cudnn_attention_backward",
    _fft: "_fft_r2c _fft_c2r _fft_c2c",
    _along: "_softmax _log_softmax _safe_softmax _softmax_backward_data "
    "_log_softmax_backward_data cumsum cumprod gather",
    _piece: "cat stack slice_backward select_backward slice_scatter select_scatter",
    _reduction: "sum mean var std var_mean amax amin argmax argmin prod any all",
    _layer_norm: "native_layer_norm native_layer_norm_backward _fused_rms_norm",
    _batch_norm: "native_batch_norm native_batch_norm_backward",
    _group_norm: "native_group_norm native_group_norm_backward",
    _pool: "max_pool2d_with_indices max_pool2d_with_indices_backward avg_pool2d "
    "avg_pool2d_backward",
    _repeat: "repeat",
    _table: "embedding embedding_dense_backward index index_put index_select nll_loss_forward "
    "nll_loss2d_forward nll_loss_backward nll_loss2d_backward",
}
_READERS = {f"aten.{n}": reader for reader, names in _READER_NAMES.items() for n in names.split()}
