"""Recurrences over the length in a form without custom kernels, and short convolutions.

Letters in shapes: B batch, T length, C width, E inner width, K chunks, Q positions per chunk,
N heads, D width of one head, S width of the state.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.draws import inner_width, log_uniform

__all__ = ["ChunkedScan", "CumulativeMean", "ShortConvolution"]

_LARGEST_FACTOR = 32
"""How many times larger than its input the broadcast tensors of a scan may be."""


class ShortConvolution(nn.Module):
    """A causal convolution of every channel by itself between two projections."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=2)
        taps = rng.choice((2, 3, 4, 5, 7))
        self.widen = nn.Linear(width, 2 * inner, bias=False)
        self.convolve = nn.Conv1d(
            inner, inner, taps, groups=inner, padding=taps - 1, bias=rng.random() < 0.7
        )
        self.project = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        kept, gate = self.widen(x).chunk(2, dim=-1)  # [B, T, E] each
        convolved = self.convolve(kept.transpose(1, 2))[..., : x.shape[1]]  # [B, E, T]
        mixed: Tensor = self.project(F.silu(convolved.transpose(1, 2)) * F.silu(gate))
        return mixed


class CumulativeMean(nn.Module):
    """The weighted mean of all positions so far, weights being exponentials."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        inner = inner_width(rng, width, largest_ratio=2)
        self.value = nn.Linear(width, inner)
        self.weight = nn.Linear(width, inner)
        self.project = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        weight = torch.exp(self.weight(x).float().clamp(-8.0, 8.0))  # [B, T, E]
        total = torch.cumsum(weight * self.value(x).float(), dim=1)
        mean = total / torch.cumsum(weight, dim=1)
        mixed: Tensor = self.project(mean.to(x.dtype))
        return mixed


class ChunkedScan(nn.Module):
    """A linear recurrence with a decay per head, chunk by chunk (Dao and Gu 2024).

    Contractions are broadcast products and sums, or ``einsum``; what chunks hand on is found by
    the same triangle of decays as what positions hand on.
    """

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.chunk = rng.choice([size for size in (4, 8, 16, 32, 64) if size <= length])
        most = max(4, min(2 * width, _LARGEST_FACTOR * width // self.chunk))
        self.head_width = min(most, rng.choice((4, 8, 16, 32, 64)))
        self.heads = max(1, log_uniform(rng, 4, most) // self.head_width)
        self.state = min(64, log_uniform(rng, 4, max(4, most // self.heads)))
        self.contracts = rng.random() < 0.4
        self.masks_first = rng.random() < 0.5
        inner = self.heads * self.head_width
        self.parts = (inner, self.state, self.state, self.heads)
        self.inward = nn.Linear(width, sum(self.parts), bias=False)
        self.log_rate = nn.Parameter(torch.zeros(self.heads))
        self.step_bias = nn.Parameter(torch.zeros(self.heads))
        self.outward = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        batch, length, _ = x.shape
        padded = F.pad(self.inward(x), (0, 0, 0, -length % self.chunk)).float()
        chunks = padded.view(batch, -1, self.chunk, padded.shape[-1])  # [B, K, Q, ...]
        value, key, query, step = chunks.split(self.parts, dim=-1)
        value = value.reshape(*value.shape[:3], self.heads, self.head_width)
        step = F.softplus(step + self.step_bias.float())  # [B, K, Q, N]
        decay = (-torch.exp(self.log_rate.float()) * step).permute(0, 3, 1, 2)  # [B, N, K, Q]
        value = value * step[..., None]
        mixed = self._within(value, key, query, decay) + self._between(value, key, query, decay)
        mixed = mixed.reshape(batch, -1, self.heads * self.head_width)[:, :length]
        projected: Tensor = self.outward(mixed.to(x.dtype))
        return projected

    def _within(self, value: Tensor, key: Tensor, query: Tensor, decay: Tensor) -> Tensor:
        """What positions of a chunk, ``[B, K, Q, N, D]``, hand on to later ones of it."""
        lasting = torch.exp(self._sums(decay)).permute(0, 2, 3, 4, 1)  # [B, K, Q, Q, N]
        if self.contracts:
            scores = torch.einsum("bkqs,bkps->bkqp", query, key)
            return torch.einsum("bkqp,bkqpn,bkpnd->bkqnd", scores, lasting, value)
        scores = (query[:, :, :, None] * key[:, :, None]).sum(dim=-1)  # [B, K, Q, Q]
        weights = scores[..., None] * lasting
        return (weights[..., None] * value[:, :, None]).sum(dim=3)

    def _between(self, value: Tensor, key: Tensor, query: Tensor, decay: Tensor) -> Tensor:
        """What earlier chunks hand on to a chunk's positions, ``[B, K, Q, N, D]``."""
        sums = torch.cumsum(decay, dim=-1)  # [B, N, K, Q]
        to_end = torch.exp(sums[..., -1:] - sums).permute(0, 2, 3, 1)[..., None]  # [B, K, Q, N, 1]
        states = torch.einsum("bkqs,bkqnd->bknds", key, value * to_end)
        totals = F.pad(sums[..., -1], (1, 0))[..., :-1]  # [B, N, K], of the chunk before
        passing = torch.exp(self._sums(totals))  # [B, N, K, K]
        before = torch.cat((torch.zeros_like(states[:, :1]), states[:, :-1]), dim=1)
        carried = torch.einsum("bnkj,bjnds->bknds", passing, before)
        since_start = torch.exp(sums).permute(0, 2, 3, 1)[..., None]  # [B, K, Q, N, 1]
        if self.contracts:
            return torch.einsum("bkqs,bknds->bkqnd", query, carried) * since_start
        narrow = query.reshape(-1, *query.shape[2:])  # [B * K, Q, S]
        flat = carried.permute(0, 1, 4, 2, 3).reshape(narrow.shape[0], self.state, -1)
        return torch.bmm(narrow, flat).view(value.shape) * since_start

    def _sums(self, x: Tensor) -> Tensor:
        """Give the sums ``x[j + 1] + ... + x[i]`` as ``[..., Q, Q]``, minus infinity above."""
        size = x.shape[-1]
        lower = torch.tril(torch.ones(size, size, dtype=torch.bool, device=x.device))
        if self.masks_first:
            copies = x[..., None].expand(*x.shape, size)
            copies = copies.masked_fill(~torch.tril(lower, diagonal=-1), 0.0)
            sums = torch.cumsum(copies, dim=-2)
        else:
            running = torch.cumsum(x, dim=-1)
            sums = running[..., :, None] - running[..., None, :]
        return sums.masked_fill(~lower, -math.inf)
