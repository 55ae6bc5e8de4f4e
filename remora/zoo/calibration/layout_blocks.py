"""Blocks in which data moves: concatenations, shifts, gathers, transposed copies.

Letters in shapes: B batch, T length, C width, E inner width.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.activations import Activation
from remora.zoo.calibration.draws import divisor, inner_width, log_uniform

__all__ = [
    "GatheredMix",
    "GroupedContraction",
    "LengthMix",
    "PrefixMix",
    "ShiftMix",
    "StackedBranches",
    "StridedMerge",
]


class ShiftMix(nn.Module):
    """Join every position with neighbours at a distance, by rolling or by padding."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.distance = rng.randint(1, max(1, length // 2))
        self.rolls = rng.random() < 0.5
        self.mix = nn.Linear(2 * width, width, bias=rng.random() < 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        if self.rolls:
            moved = torch.roll(x, self.distance, dims=1)
        else:
            moved = F.pad(x, (0, 0, self.distance, 0))[:, : x.shape[1]]
        mixed: Tensor = self.mix(torch.cat((x, moved), dim=-1))
        return mixed


class GatheredMix(nn.Module):
    """Reorder the positions by an index, mix, and put them back."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        order = list(range(length))
        rng.shuffle(order)
        forth = torch.tensor(order, device="cpu")  # [T]
        self.register_buffer("forth", forth)
        self.register_buffer("back", torch.argsort(forth))
        self.way = rng.choice(("select", "index", "gather"))
        self.mix = nn.Linear(width, width)
        self.activation = Activation(rng)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        mixed = self.activation(self.mix(self._take(x, self.get_buffer("forth"))))
        return self._take(mixed, self.get_buffer("back"))

    def _take(self, x: Tensor, order: Tensor) -> Tensor:
        if self.way == "select":
            return torch.index_select(x, 1, order)
        if self.way == "index":
            return x[:, order]
        return torch.gather(x, 1, order[None, :, None].expand(x.shape))


class StackedBranches(nn.Module):
    """Stack several projections, weigh them by a softmax and add them up."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        count = rng.randint(2, 4)
        self.branches = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        self.router = nn.Linear(width, count, bias=False)
        self.stack_dim = rng.choice((0, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        shares = F.softmax(self.router(x), dim=-1)  # [B, T, branches]
        stacked = torch.stack([branch(x) for branch in self.branches], dim=self.stack_dim)
        if self.stack_dim == 0:
            shares = shares.permute(2, 0, 1)
        return (stacked * shares[..., None]).sum(dim=self.stack_dim)


class LengthMix(nn.Module):
    """Mix positions instead of channels, through transposed copies (Tolstikhin et al. 2021)."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, length, largest_ratio=2)
        self.copies = rng.random() < 0.5
        self.widen = nn.Linear(length, inner)
        self.activation = Activation(rng)
        self.project = nn.Linear(inner, length)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        turned = x.transpose(1, 2)  # [B, C, T]
        if self.copies:
            turned = turned.contiguous()
        mixed: Tensor = self.project(self.activation(self.widen(turned))).transpose(1, 2)
        return mixed.contiguous() if self.copies else mixed


class PrefixMix(nn.Module):
    """Put learned positions in front, add position vectors, mix, and cut the front off."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        count = log_uniform(rng, 1, 16)
        self.prefix = nn.Parameter(torch.zeros(1, count, width))
        self.positions = nn.Parameter(torch.zeros(1, count + length, width))
        self.mix = nn.Linear(width, width)
        self.summary = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        joined = torch.cat((self.prefix.expand(x.shape[0], -1, -1), x), dim=1)
        mixed = self.mix(joined + self.positions)
        count = self.prefix.shape[1]
        rest: Tensor = mixed[:, count:]
        return rest + torch.tanh(self.summary(mixed[:, 0]))[:, None]


class StridedMerge(nn.Module):
    """Join neighbouring positions into one, mix, and spread the result over them again."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.stride = rng.choice((2, 3, 4))
        inner = inner_width(rng, width, largest_ratio=2)
        self.merge = nn.Linear(self.stride * width, inner, bias=False)
        self.project = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        length = x.shape[1]
        padded = F.pad(x, (0, 0, 0, -length % self.stride))
        parts = [padded[:, first :: self.stride] for first in range(self.stride)]
        mixed = self.project(self.merge(torch.cat(parts, dim=-1)))
        return torch.repeat_interleave(mixed, self.stride, dim=1)[:, :length]


class GroupedContraction(nn.Module):
    """A matrix of its own per group of channels, as an ``einsum`` or a batch of products."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.groups = divisor(rng, width, most=16)
        size = width // self.groups
        inner = inner_width(rng, size, largest_ratio=2)
        self.inward = nn.Parameter(torch.randn(self.groups, size, inner) / size**0.5)
        self.outward = nn.Parameter(torch.randn(self.groups, inner, size) / inner**0.5)
        self.activation = Activation(rng)
        self.by_einsum = rng.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        grouped = x.view(*x.shape[:2], self.groups, -1)  # [B, T, groups, C / groups]
        if self.by_einsum:
            inner = self.activation(torch.einsum("btgc,gce->btge", grouped, self.inward))
            return torch.einsum("btge,gec->btgc", inner, self.outward).reshape(x.shape)
        rows = grouped.permute(2, 0, 1, 3).reshape(self.groups, -1, grouped.shape[-1])
        mixed = torch.bmm(self.activation(torch.bmm(rows, self.inward)), self.outward)
        mixed = mixed.view(self.groups, *x.shape[:2], -1).permute(1, 2, 0, 3)
        return mixed.reshape(x.shape)
