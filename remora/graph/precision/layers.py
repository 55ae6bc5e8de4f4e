"""Layers whose products are computed in eight bits, through torchao's kernels.

R: rows (samples x tokens), K: features in, N: features out.

int8: both factors of each of the three products of a layer are rounded to 255 steps of the largest
entry of their row or column, when the product is made. fp8: to four exponent bits (gradients: five)
with one scale per tensor (Micikevicius et al. 2022, arXiv 2209.05433). In inference the weights
alone are int8, by rows, and stay so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from remora.errors import MissingExtraError
from remora.graph.precision.precision import Precision
from remora.graph.wrapping import Function, Wrapper, wrap

__all__ = ["Int8Weight", "product_layers", "reduced_layer"]

_MULTIPLES = {Precision.INT8: 1, Precision.FP8: 16}
"""What R, K and N have to be multiples of for kernels in eight bits on every device."""

_Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def product_layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers below a module that multiply by a weight, with their paths from there.

    Layers of other classes stay as they are: what their code reads of a weight is not known.
    """
    return [
        (path, layer)
        for path, layer in module.named_modules()
        if type(layer) is nn.Linear or _is_transposed(layer)
    ]


def reduced_layer(layer: nn.Module, path: str, precision: Precision) -> Wrapper:
    """Let a layer compute its products in eight bits, until the wrapper is removed.

    A call whose sizes the kernels do not take goes through the layer's own forward.

    Args:
        layer: one of :func:`product_layers`.
        path: its name in messages.
        precision: int8 or fp8.

    Raises:
        MissingExtraError: torchao is not installed.
    """
    multiple = _MULTIPLES[precision]
    linear = _int8_linear() if precision is Precision.INT8 else _float8_linear()

    def run(forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        weight, x = _weight(layer), args[0] if args else None
        if not isinstance(x, Tensor) or not _fits(x, weight, multiple):
            return forward(*args, **kwargs)
        return linear(x.contiguous(), weight, cast("Tensor | None", layer.bias))

    return wrap(layer, path, run)


class Int8Weight:
    """A layer whose weight is int8 with a scale per row, until it is put back.

    Args:
        layer: one of :func:`product_layers`; no gradients go through it meanwhile.
        path: its name in messages.

    Raises:
        MissingExtraError: torchao is not installed.
    """

    def __init__(self, layer: nn.Module, path: str) -> None:
        quantize = _torchao("prototype.quantized_training.int8").quantize_int8_rowwise
        self._layer = layer
        self._own = layer._parameters["weight"]
        values, scale = quantize(_weight(layer).detach())  # [N, K] int8, [N]
        layer._parameters["weight"] = nn.Parameter(values, requires_grad=False)
        layer._buffers["weight_scale"] = scale
        self._wrapper = wrap(layer, path, self._run)

    def remove(self) -> None:
        """Put the weight back."""
        self._wrapper.remove()
        self._layer._parameters["weight"] = self._own
        del self._layer._buffers["weight_scale"]

    def _run(self, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        x: Tensor = args[0]  # [..., K]
        weight, scale = self._layer.weight, self._layer.weight_scale
        assert isinstance(weight, Tensor)
        assert isinstance(scale, Tensor)
        product = nn.functional.linear(x, weight.to(x.dtype)) * scale  # [..., N]
        bias = cast("Tensor | None", self._layer.bias)
        return product if bias is None else product + bias


def _is_transposed(layer: nn.Module) -> bool:
    """Whether it is transformers' layer whose weight is [K, N]."""
    return type(layer).__name__ == "Conv1D" and type(layer).__module__.startswith("transformers")


def _weight(layer: nn.Module) -> Tensor:
    """The weight of a layer.  # [N, K]."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.t() if _is_transposed(layer) else weight


def _fits(x: Tensor, weight: Tensor, multiple: int) -> bool:
    rows = x.numel() // x.shape[-1]
    return all(size % multiple == 0 for size in (rows, *weight.shape))


def _int8_linear() -> _Linear:
    module = _torchao("prototype.quantized_training.int8_mixed_precision")
    function = module._Int8MixedPrecisionTrainingLinearFunction
    config = module.Int8MixedPrecisionTrainingConfig()

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        product: Tensor = function.apply(x, weight, bias, config)
        return cast("Tensor", _DenseGradient.apply(product))  # type: ignore[no-untyped-call]

    return linear


def _float8_linear() -> _Linear:
    _torchao("float8.float8_utils")

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        product = cast("Tensor", _Float8Product.apply(x, weight))  # type: ignore[no-untyped-call]
        return product if bias is None else product + bias

    return linear


class _DenseGradient(torch.autograd.Function):
    """Passes a tensor on, and its gradient without gaps, as torchao's kernels want it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # [..., N]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


class _Float8Product(torch.autograd.Function):
    """x weight^T and its two gradients, each a product in fp8."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # [..., K], [N, K] -> [..., N]
        ctx.save_for_backward(x, weight)
        exact, wide = torch.float8_e4m3fn, torch.float8_e4m3fn
        product = _scaled(x.view(-1, x.shape[-1]), exact, weight.t(), wide)
        return product.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, weight.shape[0])  # [R, N]
        wide, exact = torch.float8_e5m2, torch.float8_e4m3fn
        of_x = _scaled(rows, wide, weight, exact)  # [R, K]
        of_weight = _scaled(rows.t(), wide, x.view(-1, x.shape[-1]), exact)  # [N, K]
        return of_x.view_as(x), of_weight


def _scaled(a: Tensor, kind_a: torch.dtype, b: Tensor, kind_b: torch.dtype) -> Tensor:
    """Product of two matrices in fp8, laid out by rows and by columns as the kernels want them."""
    from torchao.float8.float8_utils import tensor_to_scale, to_fp8_saturated

    scale_a, scale_b = tensor_to_scale(a, kind_a), tensor_to_scale(b, kind_b)
    left = to_fp8_saturated(a * scale_a, kind_a).contiguous()
    right = to_fp8_saturated(b * scale_b, kind_b).t().contiguous().t()
    scales = scale_a.reciprocal(), scale_b.reciprocal()
    return torch._scaled_mm(left, right, *scales, out_dtype=a.dtype)


def _torchao(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"torchao.{name}")
    except ImportError as error:
        raise MissingExtraError("torchao", "lowbit", "products in eight bits") from error
