"""Attention as one fused operator, written out, with relative positions and in windows.

Letters in shapes: B batch, T length, C width, N heads, D width of one head.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.heads import Heads, Rotary

__all__ = ["FusedAttention", "RelativeAttention", "WrittenAttention"]

_BUCKETS = 32
_EXACT = 8
"""Distances below this have a bucket each way of their own, longer ones share by logarithm."""

_FARTHEST = 128


def _rotary(rng: random.Random, heads: Heads, length: int) -> nn.Module:
    """Draw rotary positions or none."""
    if rng.random() < 0.5:
        return nn.Identity()
    return Rotary(heads.head_width, length, by_table=rng.random() < 0.5)


def _causal_bias(length: int) -> Tensor:
    """Give ``[T, T]``, 0 where a position may look and minus infinity ahead of it."""
    blank = torch.full((length, length), -math.inf, device="cpu")
    return torch.triu(blank, diagonal=1)


class FusedAttention(nn.Module):
    """PyTorch's attention: full, causal, or with an explicit additive mask."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.heads = Heads(rng, width)
        self.rotary = _rotary(rng, self.heads, length)
        self.dropout = rng.choice((0.0, 0.0, 0.1))
        self.mask = rng.choice(("full", "causal", "additive"))
        if self.mask == "additive":
            self.register_buffer("bias", _causal_bias(length))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        query, key, value = self.heads(x)
        bias = self.get_buffer("bias").to(x.dtype) if self.mask == "additive" else None
        found = F.scaled_dot_product_attention(
            self.rotary(query),
            self.rotary(key),
            value,
            attn_mask=bias,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.mask == "causal",
        )
        return self.heads.merge(found)


class WrittenAttention(nn.Module):
    """Attention out of products, a mask and a softmax, in 32 bits or as the input is."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.heads = Heads(rng, width)
        self.rotary = _rotary(rng, self.heads, length)
        self.mask = rng.choice(("none", "filled", "where", "added"))
        self.in_float32 = rng.random() < 0.5
        self.dropout = nn.Dropout(rng.choice((0.0, 0.1)))
        bias = _causal_bias(length)
        if self.mask == "added":
            self.register_buffer("bias", bias)
        elif self.mask != "none":
            self.register_buffer("hidden", bias < 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        query, key, value = self.heads(x)
        query = self.rotary(query) * self.heads.head_width**-0.5
        scores = self._masked(query @ self.rotary(key).transpose(-1, -2))  # [B, N, T, T]
        dtype = torch.float32 if self.in_float32 else scores.dtype
        shares = F.softmax(scores, dim=-1, dtype=dtype).to(value.dtype)
        return self.heads.merge(self.dropout(shares) @ value)

    def _masked(self, scores: Tensor) -> Tensor:
        if self.mask == "none":
            return scores
        if self.mask == "added":
            return scores + self.get_buffer("bias").to(scores.dtype)
        hidden = self.get_buffer("hidden")
        lowest = torch.finfo(scores.dtype).min
        if self.mask == "filled":
            return scores.masked_fill(hidden, lowest)
        return torch.where(hidden, torch.full((), lowest).to(scores), scores)


class RelativeAttention(nn.Module):
    """Attention with a learned bias per bucket of distances (Raffel et al. 2019)."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.heads = Heads(rng, width)
        self.bias = nn.Embedding(_BUCKETS, self.heads.heads)
        self.dropout = nn.Dropout(rng.choice((0.0, 0.1)))
        self.fused = rng.random() < 0.4

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, C]`` to the same shape."""
        query, key, value = self.heads(x)
        bias = self.bias(_buckets(x.shape[1], x.device)).permute(2, 0, 1)[None]  # [1, N, T, T]
        if self.fused:
            return self.heads.merge(F.scaled_dot_product_attention(query, key, value, bias))
        scores = torch.matmul(query, key.transpose(3, 2)) + bias
        shares = F.softmax(scores.float(), dim=-1).type_as(scores)
        return self.heads.merge(torch.matmul(self.dropout(shares), value))


def _buckets(length: int, device: torch.device) -> Tensor:
    """Give the bucket of every pair of positions, int64 ``[T, T]`` below ``_BUCKETS``."""
    positions = torch.arange(length, device=device)
    ahead = positions[None, :] - positions[:, None]
    distance = ahead.abs()
    half = _BUCKETS // 2
    octaves = torch.log(distance.clamp(min=1).float() / _EXACT) / math.log(_FARTHEST / _EXACT)
    shared = _EXACT + (octaves * (half - _EXACT)).to(torch.long)
    shared = torch.minimum(shared, torch.full_like(shared, half - 1))
    return (ahead > 0).to(torch.long) * half + torch.where(distance < _EXACT, distance, shared)
