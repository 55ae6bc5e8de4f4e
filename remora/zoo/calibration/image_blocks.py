"""Convolutions of many kinds, and what stands around them.

Letters in shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.activations import Activation
from remora.zoo.calibration.draws import divisor, inner_width
from remora.zoo.calibration.norms import ChannelLayerNorm, image_norm

__all__ = [
    "Bottleneck",
    "ChannelGate",
    "ChannelsLast",
    "CircularConvolution",
    "Convolutions",
    "CoordinateConvolution",
    "GridAttention",
    "SampleDropping",
    "TwoBranches",
]


def _activation(rng: random.Random) -> nn.Module:
    """Draw a function that images are used to, in place where that saves memory."""
    if rng.random() < 0.5:
        return Activation(rng)
    return rng.choice((nn.ReLU(), nn.ReLU(inplace=True), nn.SiLU(), nn.GELU()))


class Convolutions(nn.Module):
    """Two convolutions, plain or in groups, each with norm and function around it."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=2)
        layers: list[nn.Module] = []
        for before, after in ((width, inner), (inner, width)):
            side = rng.choice((1, 3, 3, 5, 7))
            layers.append(
                nn.Conv2d(before, after, side, padding=side // 2, bias=rng.random() < 0.5)
            )
            layers += [image_norm(rng, after), _activation(rng)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        mixed: Tensor = self.layers(x)
        return mixed


class Bottleneck(nn.Module):
    """Narrow by a 1x1 convolution, mix positions in groups of channels, widen again."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=1)
        side = rng.choice((3, 3, 5))
        groups = divisor(rng, inner)
        self.narrow = nn.Conv2d(width, inner, 1, bias=False)
        self.first_norm = image_norm(rng, inner)
        self.mix = nn.Conv2d(inner, inner, side, padding=side // 2, groups=groups, bias=False)
        self.second_norm = image_norm(rng, inner)
        self.widen = nn.Conv2d(inner, width, 1, bias=False)
        self.activation = _activation(rng)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        x = self.activation(self.first_norm(self.narrow(x)))
        mixed: Tensor = self.widen(self.activation(self.second_norm(self.mix(x))))
        return mixed


class ChannelsLast(nn.Module):
    """A depthwise convolution, then matrices over the channels, which are put last."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        side = rng.choice((3, 5, 7, 7))
        inner = inner_width(rng, width)
        self.depthwise = nn.Conv2d(width, width, side, padding=side // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, inner)
        self.activation = Activation(rng)
        self.project = nn.Linear(inner, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        last = self.norm(self.depthwise(x).permute(0, 2, 3, 1))  # [B, H, W, C]
        last = self.scale * self.project(self.activation(self.widen(last)))
        mixed: Tensor = last.permute(0, 3, 1, 2)
        return mixed


class ChannelGate(nn.Module):
    """Gate the channels by their mean over all positions (Hu et al. 2017)."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=1)
        self.mix = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.by_mean = rng.random() < 0.5
        self.squeeze = nn.Linear(width, inner)
        self.excite = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        x = self.mix(x)
        mean = x.mean(dim=(2, 3)) if self.by_mean else self.pool(x).flatten(1)  # [B, C]
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))
        return x * gate[:, :, None, None]


class TwoBranches(nn.Module):
    """Two convolutions side by side, joined along the channels and mixed."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        first, second = inner_width(rng, width, 1), inner_width(rng, width, 1)
        side = rng.choice((3, 5))
        self.first = nn.Conv2d(width, first, 1)
        self.second = nn.Conv2d(width, second, side, padding=side // 2)
        self.norm = image_norm(rng, first + second)
        self.activation = _activation(rng)
        self.mix = nn.Conv2d(first + second, width, rng.choice((1, 3)), padding="same")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        joined = torch.cat((self.first(x), self.second(x)), dim=1)
        mixed: Tensor = self.mix(self.activation(self.norm(joined)))
        return mixed


class CircularConvolution(nn.Module):
    """A convolution on a grid that wraps around in one direction or in both."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=2)
        self.edge = rng.choice((1, 1, 2))
        self.wraps_both = rng.random() < 0.5
        self.mix = nn.Conv2d(width, inner, 2 * self.edge + 1)
        self.activation = _activation(rng)
        self.project = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        edge = self.edge
        if self.wraps_both:
            x = F.pad(x, (edge, edge, edge, edge), mode="circular")
        else:
            x = F.pad(F.pad(x, (edge, edge, 0, 0), mode="circular"), (0, 0, edge, edge))
        mixed: Tensor = self.project(self.activation(self.mix(x)))
        return mixed


class SampleDropping(nn.Module):
    """A convolution whose result is dropped for whole samples (Huang et al. 2016)."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.norm = ChannelLayerNorm(rng, width)
        self.mix = nn.Conv2d(width, width, rng.choice((1, 3)), padding="same")
        self.keep = rng.choice((0.8, 0.9))
        self.by_floor = rng.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        mixed: Tensor = self.mix(self.norm(x))
        shape = (x.shape[0], 1, 1, 1)
        if self.by_floor:
            mask = torch.rand(shape, dtype=x.dtype, device=x.device).add_(self.keep).floor_()
            return mixed.div(self.keep) * mask
        mask = mixed.new_empty(shape).bernoulli_(self.keep)
        return mixed * (mask / self.keep)


class CoordinateConvolution(nn.Module):
    """A convolution that also sees where it is, by channels of coordinates (Liu et al. 2018)."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=2)
        side = rng.choice((1, 3))
        self.mix = nn.Conv2d(width + 2, inner, side, padding="same")
        self.activation = _activation(rng)
        self.project = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        height, breadth = x.shape[2:]
        down = torch.linspace(0.0, 1.0, height, dtype=x.dtype, device=x.device)
        along = torch.linspace(0.0, 1.0, breadth, dtype=x.dtype, device=x.device)
        rows = down.view(1, 1, height, 1).repeat(x.shape[0], 1, 1, breadth)
        columns = along.view(1, 1, 1, breadth).repeat(x.shape[0], 1, height, 1)
        joined = torch.cat((x, rows, columns), dim=1)
        mixed: Tensor = self.project(self.activation(self.mix(joined)))
        return mixed


class GridAttention(nn.Module):
    """Attention between the positions of a coarse grid, whose result is spread again."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.heads = divisor(rng, width, most=8)
        self.side = min(length, rng.choice((8, 12, 16)))
        self.inward = nn.Conv2d(width, 3 * width, 1)
        self.outward = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        coarse = F.adaptive_avg_pool2d(x, self.side)
        joint = self.inward(coarse).flatten(2).transpose(1, 2)  # [B, positions, 3 C]
        query, key, value = (
            part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for part in joint.chunk(3, dim=-1)
        )
        found = F.scaled_dot_product_attention(query, key, value)
        grid = found.transpose(2, 3).reshape(coarse.shape)
        return F.interpolate(self.outward(grid), size=x.shape[2:], mode="nearest")
