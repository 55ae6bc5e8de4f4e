"""Sizes of operators that amount to matrix products: products, convolutions, attention."""

from __future__ import annotations

import math

from remora.cost_models.gnn.op_shapes import OpShape, whole_list
from remora.graph.model_graph import Op, TensorView

__all__ = ["attention", "attention_backward", "convolution", "convolution_backward", "product"]

_Tensors = list[TensorView]


def product(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape | None:
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


def convolution(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of a convolution, transposed or not."""
    return _convolution_shape(op, inputs[0], inputs[1], outputs[0], 3, image_gradient=False)


def convolution_backward(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of the product that its gradients take, which are one or two."""
    grad, image, weight = inputs[:3]
    mask = op.args[-1]
    gradient = bool(mask[1][0]) if isinstance(mask, list | tuple) else True
    return _convolution_shape(op, image, weight, grad, 4, gradient)


def attention(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """Sizes of the product of queries and keys; the second one has the same."""
    query, key = inputs[:2]
    return _attention_shape(op, query, key, products=2.0)


def attention_backward(op: Op, inputs: _Tensors, outputs: _Tensors) -> OpShape:
    """The same; five products, with that of the scores done again."""
    query, key = inputs[1:3]
    return _attention_shape(op, query, key, products=5.0)


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
        stride=math.prod(whole_list(op.args[strides_at])),
        dilation=math.prod(whole_list(op.args[strides_at + 2])),
        groups=groups,
        grid=points,
        side=min(image.shape[-1], result.shape[-1]),
        image_gradient=image_gradient,
        raises=op.args[strides_at + 3] is True,
        row=weight.shape[1],
        rows=image.shape[0],
    )


def _attention_shape(op: Op, query: TensorView, key: TensorView, products: float) -> OpShape:
    batch = math.prod(query.shape[:-2])
    m, k = query.shape[-2:]
    n = key.shape[-2]
    causal = any(argument is True for argument in op.args)
    flops = products * 2.0 * batch * m * n * k * (0.5 if causal else 1.0)
    return OpShape(
        flops=max(op.flops, flops), m=m, n=n, k=k, batch=batch, row=n, rows=batch * m, inner=causal
    )


def _lies_transposed(view: TensorView) -> bool:
    return view.stride[-1] != 1 and view.stride[-2] == 1


def _has_gaps(view: TensorView) -> bool:
    """Whether the longer of the last two strides skips numbers of other tensors."""
    rows, columns = view.shape[-2:]
    length = rows if _lies_transposed(view) else columns
    return max(view.stride[-2:]) > max(length, 1)
