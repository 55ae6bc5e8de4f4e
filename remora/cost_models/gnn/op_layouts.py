"""How an operator's tensors lie in memory: what an inner loop meets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from remora.graph.kinds import dtype_bytes
from remora.graph.model_graph import ModelGraph, Op, TensorView

__all__ = ["LAYOUT_FEATURES", "layout_features"]

_DTYPES = ("float32", "bfloat16", "float16", "float64", "complex64", "bool", "int64")
_PLACES = ("first", "second", "result")
_OF_ONE = (
    "present",
    "dense",
    "channels_last",
    "broadcast",
    "inner_stride",
    "transposed",
    "log_run",
    "log_numel",
    "log_rank",
    "element_bytes",
)
_JOINT = ("log_inner_loop", "log_outer_loops", "inner_strided", "inner_broadcast")

LAYOUT_FEATURES = (
    *(f"is_{dtype}" for dtype in _DTYPES),
    "converts",
    *(f"{place}_{name}" for place in _PLACES for name in _OF_ONE),
    *_JOINT,
)


def layout_features(graph: ModelGraph, op: Op) -> list[float]:
    """Describe dtype and strides of the first two inputs and the first result, and their loop.

    Args:
        graph: the graph that ``op`` belongs to.
        op: one of its operators.

    Returns:
        # [len(LAYOUT_FEATURES)].
    """
    inputs = [graph.tensors[t] for t in op.inputs]
    outputs = [graph.tensors[t] for t in op.outputs]
    main = (*outputs, *inputs)[:1]
    dtype = main[0].dtype if main else ""
    converts = any(view.dtype != dtype for view in inputs)
    values = [float(dtype == name) for name in _DTYPES]
    values.append(float(converts))
    for view in (*_padded(inputs, 2), *_padded(outputs, 1)):
        values += _of_one(view)
    return values + _joint(inputs, outputs)


def _padded(views: Sequence[TensorView], count: int) -> list[TensorView | None]:
    return [*views[:count], *[None] * (count - len(views))]


def _of_one(view: TensorView | None) -> list[float]:
    if view is None:
        return [0.0] * len(_OF_ONE)
    numel = math.prod(view.shape)
    dims = [(n, s) for n, s in zip(view.shape, view.stride, strict=True) if n > 1]
    inner = dims[-1][1] if dims else 1
    transposed = len(dims) > 1 and inner != 1 and dims[-2][1] == 1
    return [
        1.0,
        float(_is_dense(dims)),
        float(_is_channels_last(view)),
        float(any(stride == 0 for _, stride in dims)),
        math.log1p(inner),
        float(transposed),
        math.log1p(_run(dims)),
        math.log1p(numel),
        math.log1p(len(dims)),
        float(dtype_bytes(view.dtype)),
    ]


def _is_dense(dims: Sequence[tuple[int, int]]) -> bool:
    """Whether the tensor lies in order without gaps."""
    expected = 1
    for size, stride in reversed(dims):
        if stride != expected:
            return False
        expected *= size
    return True


def _is_channels_last(view: TensorView) -> bool:
    if len(view.shape) < 3 or view.shape[1] <= 1:
        return False
    order = (0, *range(2, len(view.shape)), 1)
    dims = [(view.shape[d], view.stride[d]) for d in order if view.shape[d] > 1]
    return len(dims) > 1 and _is_dense(dims)


def _run(dims: Sequence[tuple[int, int]]) -> int:
    """Numbers that lie one behind the other in the order of the last dimensions."""
    run = 1
    for size, stride in reversed(dims):
        if stride != run:
            break
        run *= size
    return run


def _joint(inputs: Sequence[TensorView], outputs: Sequence[TensorView]) -> list[float]:
    """Inner loop of an elementwise pass, dimensions joined where all operands allow it."""
    views = [*outputs[:1], *inputs[:3]]
    shape = max((view.shape for view in views), key=lambda s: (math.prod(s), len(s)), default=())
    strides = [s for view in views if (s := _broadcast(view, shape)) is not None]
    dims = sorted(
        (
            (tuple(stride[d] for stride in strides), size)
            for d, size in enumerate(shape)
            if size > 1
        ),
        key=lambda item: item[0],
    )
    if not dims or not strides:
        return [0.0] * len(_JOINT)
    inner_strides, inner = dims[0]
    for outer_strides, size in dims[1:]:
        if any(o != i * inner for o, i in zip(outer_strides, inner_strides, strict=True)):
            break
        inner *= size
    numel = math.prod(shape)
    return [
        math.log1p(inner),
        math.log1p(numel // inner),
        float(any(stride > 1 for stride in inner_strides)),
        float(any(stride == 0 for stride in inner_strides)),
    ]


def _broadcast(view: TensorView, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides of ``view`` expanded to ``shape``; None if it does not expand to it."""
    missing = len(shape) - len(view.shape)
    if missing < 0:
        return None
    strides = [0] * missing
    for size, stride, wanted in zip(view.shape, view.stride, shape[missing:], strict=True):
        if size not in (1, wanted):
            return None
        strides.append(0 if size == 1 and wanted > 1 else stride)
    return tuple(strides)
