"""Queries, keys and values of an attention, and rotary positions on them.

Letters in shapes: B batch, T length, C width, N heads, D width of one head.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from remora.zoo.calibration.draws import divisor, head_sizes

__all__ = ["Heads", "Rotary"]


class Heads(nn.Module):
    """Project to heads, from one fused matrix or from three, and back.

    Keys and values may have fewer heads than queries; they are repeated to as many.
    """

    def __init__(self, rng: random.Random, width: int) -> None:
        super().__init__()
        self.heads, self.head_width = head_sizes(rng, width)
        self.fused = rng.choice((None, "split", "chunk", "unbind"))
        grouped = self.fused in (None, "split") and rng.random() < 0.4
        self.pairs = divisor(rng, self.heads) if grouped else self.heads
        inner, narrow = self.heads * self.head_width, self.pairs * self.head_width
        bias = rng.random() < 0.5
        self.widths = (inner, narrow, narrow)
        outputs = self.widths if self.fused is None else (sum(self.widths),)
        self.inward = nn.ModuleList(nn.Linear(width, size, bias=bias) for size in outputs)
        self.outward = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``[B, T, C]`` to queries, keys and values, ``[B, N, T, D]`` each."""
        if self.fused == "unbind":
            joint = self.inward[0](x).view(*x.shape[:2], 3, self.heads, self.head_width)
            query, key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
            return query, key, value
        if self.fused == "split":
            parts = self.inward[0](x).split(self.widths, dim=-1)
        elif self.fused == "chunk":
            parts = self.inward[0](x).chunk(3, dim=-1)
        else:
            parts = [linear(x) for linear in self.inward]
        query, key, value = (
            part.view(*x.shape[:2], -1, self.head_width).transpose(1, 2) for part in parts
        )
        return query, self._repeated(key), self._repeated(value)

    def merge(self, x: Tensor) -> Tensor:
        """Map what the heads found, ``[B, N, T, D]``, to ``[B, T, C]``."""
        merged: Tensor = self.outward(x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1))
        return merged

    def _repeated(self, x: Tensor) -> Tensor:
        times = self.heads // self.pairs
        if times == 1:
            return x
        batch, pairs, length, head_width = x.shape
        copies = x[:, :, None].expand(batch, pairs, times, length, head_width)
        return copies.reshape(batch, pairs * times, length, head_width)


class Rotary(nn.Module):
    """Turn pairs of channels by an angle that grows with the position (Su et al. 2021).

    Args:
        head_width: even.
        length: positions.
        by_table: whether cosines are kept, not computed anew in every call.
    """

    def __init__(self, head_width: int, length: int, by_table: bool) -> None:
        super().__init__()
        self.by_table = by_table
        exponents = torch.arange(0, head_width, 2, device="cpu") / head_width
        frequencies = 10000.0**-exponents  # [D / 2]
        positions = torch.arange(length, device="cpu", dtype=torch.float32)  # [T]
        angles = positions[:, None] * frequencies
        angles = torch.cat((angles, angles), dim=-1)  # [T, D]
        if by_table:
            self.register_buffer("cosines", angles.cos())
            self.register_buffer("sines", angles.sin())
        else:
            self.register_buffer("frequencies", frequencies)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, N, T, D]`` to the same shape."""
        cosines, sines = self._tables(x)
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * cosines + turned * sines

    def _tables(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.by_table:
            cosines, sines = self.get_buffer("cosines"), self.get_buffer("sines")
        else:
            frequencies = self.get_buffer("frequencies")
            positions = torch.arange(x.shape[2], device=x.device, dtype=frequencies.dtype)
            angles = positions[:, None] * frequencies
            angles = torch.cat((angles, angles), dim=-1)
            cosines, sines = angles.cos(), angles.sin()
        return cosines.to(x.dtype), sines.to(x.dtype)
