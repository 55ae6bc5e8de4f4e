"""What stands around the blocks of a random network: norms, residuals, an entry and a head.

Letters in shapes: B batch, T length, C width, H height, W width of an image, K classes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.catalogue import Block
from remora.zoo.calibration.norms import image_norm, sequence_norm
from remora.zoo.prediction import Prediction

__all__ = ["Layer", "Network", "PerChannelMean", "entry", "head"]

_NORMS = {"sequence": sequence_norm, "image": image_norm}


class Layer(nn.Module):
    """A block behind a norm, its result added to the layer's input or handed on alone.

    Args:
        rng: draws norm, block and whether there is a residual connection.
        block: makes the block.
        kind: ``"sequence"`` or ``"image"``.
        width: channels.
        length: positions, or side of an image.
    """

    def __init__(
        self, rng: random.Random, block: Block, kind: str, width: int, length: int
    ) -> None:
        super().__init__()
        self.norm = _NORMS[kind](rng, width)
        self.block = block(rng, width, length)
        self.adds = rng.random() < 0.75

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` or ``[B, C, H, W]`` to the same shape."""
        mixed: Tensor = self.block(self.norm(x))
        return x + mixed if self.adds else mixed


class Network(nn.Module):
    """Layers in a row, behind an entry and, where labels are predicted, in front of a head.

    Args:
        entry: maps the example input to the shape that all layers keep.
        layers: the layers.
        head: maps that shape to ``[B, ..., K]`` or, for every pixel, ``[B, K, H, W]``; or None.
    """

    def __init__(self, entry: nn.Module, layers: Sequence[Layer], head: nn.Module | None) -> None:
        super().__init__()
        self.entry = entry
        self.layers = nn.ModuleList(layers)
        self.head = head

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor | Prediction:
        """Give what the last layer makes, ``[B, T, C]`` or ``[B, C, H, W]``, or loss and logits.

        Args:
            x: what the entry takes.
            labels: int64 ``[B, T]``, ``[B]`` or ``[B, H, W]`` where there is a head.
        """
        x = self.entry(x)
        for layer in self.layers:
            x = layer(x)
        if self.head is None or labels is None:
            return x
        logits: Tensor = self.head(x)
        if logits.dim() == 4:
            return Prediction(F.cross_entropy(logits, labels), logits)
        flat = logits.flatten(0, -2).float()  # [B or B * T, K]
        return Prediction(F.cross_entropy(flat, labels.flatten()), logits)


class PerChannelMean(nn.Module):
    """The mean over all positions of an image."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C]``."""
        return x.mean(dim=(2, 3))


def entry(rng: random.Random, kind: str, width: int, vocabulary: int | None) -> nn.Module:
    """Draw what maps the example input to the width: an embedding where it is tokens."""
    if kind == "image":
        side = rng.choice((1, 3, 7))
        return nn.Conv2d(width, width, side, padding=side // 2)
    return nn.Linear(width, width) if vocabulary is None else nn.Embedding(vocabulary, width)


def head(labelled: str, width: int, classes: int) -> nn.Module:
    """Make what predicts one class per token, pixel or image, as ``labelled`` says."""
    heads: Mapping[str, list[nn.Module]] = {
        "token": [nn.Linear(width, classes, bias=False)],
        "pixel": [nn.Conv2d(width, classes, 1)],
        "image": [PerChannelMean(), nn.Linear(width, classes)],
    }
    return nn.Sequential(*heads[labelled])
