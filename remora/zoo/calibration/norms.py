"""Normalisations over channels, fused or written out, for sequences and images.

Letters in shapes: B batch, T length, C channels, H height, W width.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.draws import divisor

__all__ = ["ChannelLayerNorm", "MomentNorm", "RootMeanSquareNorm", "image_norm", "sequence_norm"]


def sequence_norm(rng: random.Random, width: int) -> nn.Module:
    """Draw a normalisation of ``[B, T, width]``, sometimes none."""
    kind = rng.choice(("none", "layer", "layer", "rms", "rms", "moments"))
    if kind == "layer":
        return nn.LayerNorm(width, eps=rng.choice((1e-5, 1e-6, 1e-12)))
    if kind == "rms":
        return RootMeanSquareNorm(width, in_float32=rng.random() < 0.6)
    return MomentNorm(width) if kind == "moments" else nn.Identity()


def image_norm(rng: random.Random, channels: int) -> nn.Module:
    """Draw a normalisation of ``[B, channels, H, W]``, sometimes none."""
    kind = rng.choice(("none", "batch", "batch", "group", "group", "layer"))
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(divisor(rng, channels, most=32), channels)
    return ChannelLayerNorm(rng, channels) if kind == "layer" else nn.Identity()


class RootMeanSquareNorm(nn.Module):
    """Divide by the root of the mean square, written out.

    Args:
        width: channels, the last dimension.
        in_float32: whether 16-bit inputs are converted meanwhile.
    """

    def __init__(self, width: int, in_float32: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.in_float32 = in_float32

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., C]`` to the same shape."""
        wide = x.to(torch.float32) if self.in_float32 else x
        wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + 1e-6)
        return self.weight * wide.to(x.dtype)


class MomentNorm(nn.Module):
    """Subtract the mean and divide by the deviation, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., C]`` to the same shape."""
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        return centred / torch.sqrt(variance + 1e-5) * self.weight + self.bias


class ChannelLayerNorm(nn.Module):
    """Layer norm over the channels of an image, by a permutation or written out."""

    def __init__(self, rng: random.Random, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.permutes = rng.random() < 0.7

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        if self.permutes:
            last = x.permute(0, 2, 3, 1)  # [B, H, W, C]
            last = F.layer_norm(last, last.shape[-1:], self.weight, self.bias, 1e-6)
            return last.permute(0, 3, 1, 2)
        centred = x - x.mean(dim=1, keepdim=True)
        variance = centred.pow(2).mean(dim=1, keepdim=True)
        scaled = centred / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * scaled + self.bias[:, None, None]
