"""The largest batch whose peak fits, found with few traces because peaks grow almost linearly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from remora.errors import InvalidInputError
from remora.graph.loss import ExampleInputs

__all__ = ["batch_of", "largest_batch", "with_batch"]

_MOST_TRIALS = 16
_MOST_GROWTH = 8


def batch_of(example_inputs: ExampleInputs) -> int:
    """Return the leading dimension that most tensors of the example batch share.

    Raises:
        InvalidInputError: no tensor has a leading dimension.
    """
    sizes: list[int] = [leaf.shape[0] for leaf in tree_leaves(example_inputs) if _has_batch(leaf)]
    if not sizes:
        raise InvalidInputError("example_inputs holds no tensor with a batch dimension")
    return max(sizes, key=sizes.count)


def with_batch(example_inputs: ExampleInputs, batch: int) -> ExampleInputs:
    """Return the example batch with its samples repeated or cut to another size.

    Args:
        example_inputs: tensors whose leading dimension is the batch are resized, others stay.
        batch: new size, at least 1.
    """
    old = batch_of(example_inputs)
    index = torch.arange(batch) % old  # [batch]

    def resize(leaf: object) -> object:
        if _has_batch(leaf) and leaf.shape[0] == old:
            return leaf[index.to(leaf.device)]
        return leaf

    resized: ExampleInputs = tree_map(resize, example_inputs)
    return resized


def largest_batch(peak_bytes: Callable[[int], int], budget_bytes: int, start: int) -> int:
    """Return the largest batch whose peak is within the budget; 0 if not even one sample is.

    Between the largest batch known to fit and the smallest known not to, the next trial is where
    a straight line through the last two points meets the budget.

    Args:
        peak_bytes: peak by batch size; does not fall as the batch grows.
        budget_bytes: limit.
        start: batch size to begin with, at least 1.
    """
    known: dict[int, int] = {}
    fits, fails = 0, None
    trial = start
    for _ in range(_MOST_TRIALS):
        known[trial] = peak_bytes(trial)
        if known[trial] <= budget_bytes:
            fits = max(fits, trial)
        else:
            fails = trial if fails is None else min(fails, trial)
        if fails is not None and fails - fits == 1:
            break
        trial = _next_trial(known, budget_bytes, fits, fails)
    return fits


def _next_trial(known: dict[int, int], budget_bytes: int, fits: int, fails: int | None) -> int:
    lowest = fits + 1
    highest = fails - 1 if fails is not None else _MOST_GROWTH * max(known)
    if len(known) == 1:
        only = next(iter(known))
        guess = only * 2 if fails is None else only // 2
    else:
        guess = _line(known, budget_bytes)
        if guess <= fits and fits in known:
            # The line says that nothing larger fits: look just above.
            guess = lowest
    return min(max(guess, lowest), highest)


def _line(known: dict[int, int], budget_bytes: int) -> int:
    """Where the line through the two points nearest to the budget meets it."""
    nearest = sorted(known, key=lambda batch: abs(known[batch] - budget_bytes))[:2]
    low, high = min(nearest), max(nearest)
    slope = (known[high] - known[low]) / (high - low)
    if slope <= 0:
        return high * 2
    return int(low + (budget_bytes - known[low]) / slope)


def _has_batch(leaf: object) -> TypeGuard[Tensor]:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
