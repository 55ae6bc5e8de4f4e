"""Blocks that treat every position of a sequence alike.

Letters in shapes: B batch, T length, C width, E inner width.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.activations import Activation
from remora.zoo.calibration.draws import inner_width

__all__ = ["FeedForward", "GatedFeedForward", "MeanGate", "Projection"]


class FeedForward(nn.Module):
    """Widen, apply an element-wise function, project back; with dropout in half of the draws."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width)
        self.widen = nn.Linear(width, inner, bias=rng.random() < 0.6)
        self.activation = Activation(rng)
        self.project = nn.Linear(inner, width, bias=rng.random() < 0.6)
        self.dropout = nn.Dropout(rng.choice((0.0, 0.1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        mixed: Tensor = self.dropout(self.project(self.activation(self.widen(x))))
        return mixed


class GatedFeedForward(nn.Module):
    """One half of the inner channels gates the other; both from one matrix or from two."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=3)
        bias = rng.random() < 0.3
        self.gate = Activation(rng) if rng.random() < 0.5 else nn.SiLU()
        self.fused = rng.random() < 0.4
        if self.fused:
            self.both = nn.Linear(width, 2 * inner, bias=bias)
        else:
            self.first = nn.Linear(width, inner, bias=bias)
            self.second = nn.Linear(width, inner, bias=bias)
        self.project = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        if self.fused:
            first, second = self.both(x).chunk(2, dim=-1)  # [B, T, E] each
        else:
            first, second = self.first(x), self.second(x)
        mixed: Tensor = self.project(self.gate(first) * second)
        return mixed


class MeanGate(nn.Module):
    """Gate the channels by what their mean over the length says."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=1)
        self.squeeze = nn.Linear(width, inner)
        self.activation = Activation(rng)
        self.excite = nn.Linear(inner, width)
        self.keeps_length = rng.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        mean = x.mean(dim=1, keepdim=self.keeps_length)  # [B, C] or [B, 1, C]
        gate = torch.sigmoid(self.excite(self.activation(self.squeeze(mean))))
        return x * (gate if self.keeps_length else gate[:, None])


class Projection(nn.Module):
    """A single matrix, followed by a learned scale and bounds as some models set them."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=rng.random() < 0.5)
        self.scale = nn.Parameter(torch.ones(width))
        self.bound = rng.choice((None, 3.0, 10.0))
        self.drop = rng.choice((0.0, 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        mixed: Tensor = self.linear(x) * self.scale
        if self.bound is not None:
            mixed = mixed.clamp(-self.bound, self.bound)
        return F.dropout(mixed, self.drop, self.training)
