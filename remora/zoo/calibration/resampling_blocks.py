"""Blocks that work on a coarser grid of the image and come back.

Letters in shapes: B batch, C channels, E inner channels, H height, W width.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.activations import Activation
from remora.zoo.calibration.draws import inner_width
from remora.zoo.calibration.norms import image_norm

__all__ = ["Pooled", "Shuffled", "StridedConvolution", "Transposed"]


class Pooled(nn.Module):
    """Pool, mix, and interpolate back to the grid."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=2)
        self.pool = rng.choice(
            (nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1), nn.AvgPool2d(2))
        )
        self.mix = nn.Conv2d(width, inner, 3, padding=1)
        self.norm = image_norm(rng, inner)
        self.activation = Activation(rng)
        self.project = nn.Conv2d(inner, width, 1)
        self.mode = rng.choice(("nearest", "bilinear"))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        coarse = self.project(self.activation(self.norm(self.mix(self.pool(x)))))
        return F.interpolate(coarse, size=x.shape[2:], mode=self.mode)


class StridedConvolution(nn.Module):
    """Convolve with a stride, or patch by patch, and interpolate back to the grid."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width)
        stride = rng.choice((2, 2, 4))
        by_patch = rng.random() < 0.5
        side = stride if by_patch else stride + 1
        bias = rng.random() < 0.5
        self.reduce = nn.Conv2d(width, inner, side, stride, padding=0 if by_patch else 1, bias=bias)
        self.norm = image_norm(rng, inner)
        self.activation = Activation(rng)
        self.project = nn.Conv2d(inner, width, 1, bias=bias)
        self.mode = rng.choice(("nearest", "bilinear"))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        coarse = self.project(self.activation(self.norm(self.reduce(x))))
        return F.interpolate(coarse, size=x.shape[2:], mode=self.mode)


class Transposed(nn.Module):
    """Pool, then double the grid by a transposed convolution and join what was there."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=2)
        self.pool = nn.MaxPool2d(2)
        self.mix = nn.Conv2d(width, inner, 3, padding=1, bias=False)
        self.norm = image_norm(rng, inner)
        self.expand = nn.ConvTranspose2d(inner, width, 2, stride=2)
        self.join = nn.Conv2d(2 * width, width, rng.choice((1, 3)), padding="same")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        height, breadth = x.shape[2:]
        even = F.pad(x, (0, breadth % 2, 0, height % 2))
        finer = self.expand(F.relu(self.norm(self.mix(self.pool(even)))))
        joined: Tensor = self.join(torch.cat((x, finer[:, :, :height, :breadth]), dim=1))
        return joined


class Shuffled(nn.Module):
    """Trade the grid for channels and back, by shuffling pixels."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=1)
        self.narrow = nn.Conv2d(width, inner, 1)
        self.mix = nn.Conv2d(4 * inner, 4 * width, rng.choice((1, 3)), padding="same")
        self.activation = Activation(rng)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        height, breadth = x.shape[2:]
        even = F.pad(self.narrow(x), (0, breadth % 2, 0, height % 2))
        coarse = self.activation(self.mix(F.pixel_unshuffle(even, 2)))
        return F.pixel_shuffle(coarse, 2)[:, :, :height, :breadth]
