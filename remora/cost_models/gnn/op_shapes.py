"""What an operator computes, in sizes, and these as numbers for a network.

A convolution is read as the matrix product it amounts to, an attention as its first one, so that
what is learned of one kind helps another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from remora.graph.model_graph import Spec

__all__ = ["SHAPE_FEATURES", "OpShape", "blocked_weight", "shape_features", "whole_list"]


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


def blocked_weight(shape: OpShape) -> int:
    """Numbers of the second factor where both its channels are filled up to whole blocks."""
    taps = max(shape.kernel, 1)
    channels = shape.k // taps
    blocks = -(-shape.n // _VECTOR) * -(-channels // _VECTOR)
    return shape.batch * taps * blocks * _VECTOR**2


def whole_list(spec: Spec) -> list[int]:
    """Whole numbers of a traced argument: of a list, or one by itself."""
    if isinstance(spec, list | tuple) and spec and spec[0] == "list":
        return [item for item in spec[1] if type(item) is int]
    return [spec] if type(spec) is int else []


def _whole(size: int) -> float:
    """Whether a size that means something fills whole vectors."""
    return float(size > 0 and size % _VECTOR == 0)


def _filled(size: int) -> float:
    """Share of the lanes that a size keeps busy, the last vector included."""
    return size / (-(-size // _VECTOR) * _VECTOR) if size else 0.0
