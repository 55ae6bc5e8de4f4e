"""A random network: blocks drawn from the catalogue of its kind, one after the other.

Letters in shapes: B batch, T length, C width.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration import attention_blocks as attention
from remora.zoo.calibration import feed_forward_blocks as feed_forward
from remora.zoo.calibration import image_blocks as image
from remora.zoo.calibration import layout_blocks as layout
from remora.zoo.calibration import resampling_blocks as resampling
from remora.zoo.calibration import scan_blocks as scan
from remora.zoo.calibration.draws import log_uniform
from remora.zoo.calibration.norms import image_norm, sequence_norm
from remora.zoo.calibration.spectral_blocks import SpectralConvolution
from remora.zoo.calibration.window_blocks import WindowAttention
from remora.zoo.example import Example
from remora.zoo.inputs import class_labels, fields, token_ids
from remora.zoo.precision import cast_parameters, float_dtype
from remora.zoo.prediction import Prediction

__all__ = ["BLOCKS", "Layer", "Network", "calibration"]

Block = Callable[[random.Random, int, int], nn.Module]
Norm = Callable[[random.Random, int], nn.Module]

BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "sequence": (
        feed_forward.FeedForward,
        feed_forward.FeedForward,
        feed_forward.GatedFeedForward,
        feed_forward.GatedFeedForward,
        feed_forward.MeanGate,
        feed_forward.Projection,
        attention.FusedAttention,
        attention.FusedAttention,
        attention.WrittenAttention,
        attention.WrittenAttention,
        attention.RelativeAttention,
        WindowAttention,
        scan.ShortConvolution,
        scan.CumulativeMean,
        scan.ChunkedScan,
        scan.ChunkedScan,
        layout.ShiftMix,
        layout.GatheredMix,
        layout.StackedBranches,
        layout.LengthMix,
        layout.PrefixMix,
        layout.StridedMerge,
        layout.GroupedContraction,
    ),
    "image": (
        image.Convolutions,
        image.Convolutions,
        image.Convolutions,
        image.Bottleneck,
        image.Bottleneck,
        image.ChannelsLast,
        image.ChannelsLast,
        image.ChannelGate,
        image.TwoBranches,
        image.CircularConvolution,
        image.SampleDropping,
        image.GridAttention,
        resampling.Pooled,
        resampling.StridedConvolution,
        resampling.Transposed,
        resampling.Shuffled,
        SpectralConvolution,
        SpectralConvolution,
    ),
}
"""Blocks by kind of network; one named twice is drawn twice as often."""

_DTYPES = ("float32", "bfloat16")
_LEAST = {"width": 4, "length": 8, "blocks": 1, "batch": 1}
_NORMS: Mapping[str, Norm] = {"sequence": sequence_norm, "image": image_norm}


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

    Half of the networks of either kind end in their blocks and are judged by the squares of
    their output; half begin with an embedding (sequences only) and end in a cross-entropy.

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
        x: ``[batch, length, width]`` or ``[batch, width, length, length]``; where a sequence
            begins with an embedding, int64 ``[batch, length]``.
        labels (cross-entropy only): int64 ``[batch, length]`` or, for images, ``[batch]``.
    """
    sizes = {"width": width, "length": length, "blocks": blocks, "batch": batch}
    _check(kind, dtype, sizes)
    rng = random.Random(seed)
    number_format = float_dtype(dtype)
    makers = [b for b in BLOCKS[kind] if dtype == "float32" or b is not SpectralConvolution]
    body = [Layer(rng, rng.choice(makers), _NORMS[kind], width, length) for _ in range(blocks)]
    classes = log_uniform(rng, 16, 64 * width) if rng.random() < 0.5 else None
    network = Network(_entry(rng, kind, width, classes), body, width, classes)
    model = cast_parameters(network, number_format).train()
    if classes is not None and kind == "sequence":
        tokens = token_ids(batch, length, classes)
        return Example(model, {"x": tokens, "labels": tokens.clone()})
    x = _floats(kind, width, length, batch, number_format)
    if classes is not None:
        return Example(model, {"x": x, "labels": class_labels(batch, classes)})
    return Example(model, {"x": x}, rng.choice((None, mean_of_squares)))


def mean_of_squares(output: Tensor) -> Tensor:
    """Map an output of any shape to a scalar."""
    return output.square().mean()


class Layer(nn.Module):
    """A block behind a norm, its result added to the layer's input or handed on alone.

    Args:
        rng: draws norm, block and whether there is a residual connection.
        block: makes the block.
        norm: draws the norm.
        width: channels.
        length: positions, or side of an image.
    """

    def __init__(
        self, rng: random.Random, block: Block, norm: Norm, width: int, length: int
    ) -> None:
        super().__init__()
        self.norm = norm(rng, width)
        self.block = block(rng, width, length)
        self.adds = rng.random() < 0.75

    def forward(self, x: Tensor) -> Tensor:
        """Map an input of the network's shape to the same shape."""
        mixed: Tensor = self.block(self.norm(x))
        return x + mixed if self.adds else mixed


class Network(nn.Module):
    """Layers in a row, behind an entry and, where there are classes, in front of a head.

    Args:
        entry: maps the example input to the shape that all layers keep.
        layers: the layers.
        width: channels.
        classes: size of the vocabulary or number of labels; None for no head.
    """

    def __init__(
        self, entry: nn.Module, layers: list[Layer], width: int, classes: int | None
    ) -> None:
        super().__init__()
        self.entry = entry
        self.layers = nn.ModuleList(layers)
        self.head = None if classes is None else nn.Linear(width, classes)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor | Prediction:
        """Map ``[B, T, C]`` or ``[B, C, T, T]`` to the same shape, or give loss and logits."""
        x = self.entry(x)
        for layer in self.layers:
            x = layer(x)
        if self.head is None or labels is None:
            return x
        logits: Tensor = self.head(x.mean(dim=(2, 3)) if x.dim() == 4 else x)
        loss = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten())
        return Prediction(loss, logits)


def _entry(rng: random.Random, kind: str, width: int, classes: int | None) -> nn.Module:
    if kind == "image":
        side = rng.choice((1, 3, 7))
        return nn.Conv2d(width, width, side, padding=side // 2)
    return nn.Linear(width, width) if classes is None else nn.Embedding(classes, width)


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
