"""A random network and an example batch for it, from a seed and outer sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from remora.zoo.calibration.catalogue import BLOCKS, without_complex
from remora.zoo.calibration.draws import log_uniform
from remora.zoo.calibration.network import Layer, Network, entry, head
from remora.zoo.example import Example
from remora.zoo.inputs import class_labels, class_maps, fields, token_ids
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["calibration", "mean_of_squares", "squared_error"]

_DTYPES = ("float32", "bfloat16")
_LEAST = {"width": 4, "length": 8, "blocks": 1, "batch": 1}
_LABELLED = {"sequence": (None, "token"), "image": (None, "image", "pixel")}


def calibration(
    seed: int,
    kind: str,
    width: int,
    length: int,
    blocks: int,
    batch: int,
    dtype: str = "float32",
) -> Example:
    """Build a random network of generic blocks.

    Some networks end in their blocks and are judged by the squares of their output. Others
    predict classes and end in a cross-entropy: sequences of tokens, which begin with an
    embedding, and images as a whole or pixel by pixel.

    Args:
        seed: decides blocks, their order and their inner sizes; weights are drawn from PyTorch's
            generator as for every model.
        kind: ``"sequence"`` or ``"image"``.
        width: channels between blocks, at least 4.
        length: positions of a sequence or side of a square image, at least 8.
        blocks: number of blocks.
        batch: samples.
        dtype: of parameters and inputs, ``"float32"`` or ``"bfloat16"``; the latter goes without
            spectral blocks, since there is no 16-bit complex arithmetic.

    Raises:
        ValueError: another kind or dtype, or a size that is too small.

    Shapes:
        x: ``[batch, length, width]`` or ``[batch, width, length, length]``; int64
            ``[batch, length]`` for a sequence of tokens.
        labels (networks with classes): int64 ``[batch, length]`` for tokens, ``[batch]`` for
            images, ``[batch, length, length]`` for pixels.
    """
    sizes = {"width": width, "length": length, "blocks": blocks, "batch": batch}
    _check(kind, dtype, sizes)
    rng = random.Random(seed)
    choices = BLOCKS[kind] if dtype == "float32" else without_complex(BLOCKS[kind])
    layers = [Layer(rng, rng.choice(choices), kind, width, length) for _ in range(blocks)]
    labelled = rng.choice(_LABELLED[kind])
    classes = log_uniform(rng, 8, width if labelled == "pixel" else 64 * width)
    first = entry(rng, kind, width, classes if labelled == "token" else None)
    last = None if labelled is None else head(labelled, width, classes)
    number_format = float_dtype(dtype)
    model = cast_parameters(Network(first, layers, last), number_format).train()
    if labelled == "token":
        tokens = token_ids(batch, length, classes)
        return Example(model, {"x": tokens, "labels": tokens.clone()})
    x = _floats(kind, width, length, batch, number_format)
    if labelled == "image":
        return Example(model, {"x": x, "labels": class_labels(batch, classes)})
    if labelled == "pixel":
        return Example(model, {"x": x, "labels": class_maps(batch, length, length, classes)})
    losses: tuple[Callable[[Tensor], Tensor] | None, ...] = (None, mean_of_squares, squared_error)
    return Example(model, {"x": x}, rng.choice(losses))


def mean_of_squares(output: Tensor) -> Tensor:
    """Map an output of any shape to a scalar, written out."""
    return output.square().mean()


def squared_error(output: Tensor) -> Tensor:
    """Map an output of any shape to its mean squared distance from zeros."""
    return F.mse_loss(output, torch.zeros_like(output))


def _floats(kind: str, width: int, length: int, batch: int, dtype: torch.dtype) -> Tensor:
    if kind == "image":
        return fields(batch, width, length, length, dtype)
    return fields(batch, 1, length, width, dtype).squeeze(1)


def _check(kind: str, dtype: str, sizes: Mapping[str, int]) -> None:
    if kind not in BLOCKS:
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(BLOCKS)}")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype is {dtype!r}; calibration allows {' and '.join(_DTYPES)} only")
    for name, least in _LEAST.items():
        if sizes[name] < least:
            raise ValueError(f"{name} is {sizes[name]}; at least {least} is allowed")
