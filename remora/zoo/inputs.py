"""Random example inputs; drawn from generators of their own, so that no global state moves.

Letters in shapes: B batch, T sequence, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_labels", "class_maps", "fields", "token_ids"]


def token_ids(batch: int, sequence: int, vocabulary: int, seed: int = 0) -> Tensor:
    """Draw token ids, int64 ``[B, T]``, without 0 and 1, which often stand for padding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, vocabulary, (batch, sequence), generator=generator, device="cpu")


def class_labels(batch: int, classes: int, seed: int = 1) -> Tensor:
    """Draw one class per sample, int64 ``[B]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(classes, (batch,), generator=generator, device="cpu")


def class_maps(batch: int, height: int, width: int, classes: int, seed: int = 1) -> Tensor:
    """Draw one class per pixel, int64 ``[B, H, W]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(classes, (batch, height, width), generator=generator, device="cpu")


def fields(
    batch: int, channels: int, height: int, width: int, dtype: torch.dtype, seed: int = 0
) -> Tensor:
    """Draw standardised images or fields, ``[B, C, H, W]``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    return torch.randn(shape, generator=generator, device="cpu").to(dtype)
