"""Attention within the windows of a grid into which a sequence is folded.

Letters in shapes: B batch, T length, C width, S side of a window, N heads.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.heads import Heads

__all__ = ["WindowAttention"]


class WindowAttention(nn.Module):
    """Fold, roll, cut into windows, attend with a bias per offset, and undo (Liu et al. 2021)."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.side = rng.choice([side for side in (2, 3, 4, 7, 8) if side**2 <= length])
        self.shift = rng.choice((0, self.side // 2))
        self.columns = self.side * max(1, math.isqrt(length) // self.side)
        self.rows = self.side * -(-length // (self.columns * self.side))
        self.heads = Heads(rng, width)
        self.table = nn.Parameter(torch.zeros((2 * self.side - 1) ** 2, self.heads.heads))
        self.register_buffer("offsets", _offsets(self.side))
        self.written = rng.random() < 0.6

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        batch, length, width = x.shape
        grid = F.pad(x, (0, 0, 0, self.rows * self.columns - length))
        grid = grid.view(batch, self.rows, self.columns, width)
        if self.shift:
            grid = torch.roll(grid, shifts=(-self.shift, -self.shift), dims=(1, 2))
        high, wide, side = self.rows // self.side, self.columns // self.side, self.side
        grid = grid.view(batch, high, side, wide, side, width).permute(0, 1, 3, 2, 4, 5)
        windows = self._attend(grid.contiguous().view(-1, side**2, width))
        grid = windows.view(batch, high, wide, side, side, width).permute(0, 1, 3, 2, 4, 5)
        grid = grid.contiguous().view(batch, self.rows, self.columns, width)
        if self.shift:
            grid = torch.roll(grid, shifts=(self.shift, self.shift), dims=(1, 2))
        return grid.reshape(batch, -1, width)[:, :length]

    def _attend(self, windows: Tensor) -> Tensor:
        query, key, value = self.heads(windows)  # [B * windows, N, S * S, D]
        area = self.side**2
        bias = self.table[self.get_buffer("offsets").view(-1)].view(area, area, -1)
        bias = bias.permute(2, 0, 1).contiguous()[None]  # [1, N, S * S, S * S]
        if not self.written:
            return self.heads.merge(F.scaled_dot_product_attention(query, key, value, bias))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
        shares = F.softmax(scores + bias, dim=-1)
        return self.heads.merge(torch.matmul(shares, value))


def _offsets(side: int) -> Tensor:
    """Give the table's row of every pair of positions in a window, int64 ``[S * S, S * S]``."""
    steps = torch.arange(side, device="cpu")
    places = torch.cartesian_prod(steps, steps)  # [S * S, 2]
    apart = places[:, None] - places[None] + side - 1
    return apart[..., 0] * (2 * side - 1) + apart[..., 1]
