"""The largest batch whose peak fits, found with few traces because peaks grow almost linearly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["MOST_SAMPLES", "largest_batch"]

MOST_SAMPLES = 2**20
"""No batch is larger, however much memory there is."""

_MOST_GROWTH = 64
_FLAT_GROWTH = 8
"""Where the batch does not show in the peak yet, since weights are most of it."""


def largest_batch(
    peak_bytes: Callable[[int], int],
    budget_bytes: int,
    starts: Sequence[int],
    most: int = MOST_SAMPLES,
) -> int:
    """Return the largest batch whose peak is within the budget; 0 if not even one sample is.

    Peaks are almost straight lines in the batch, so the next trial is where the line through the
    two trials nearest to the budget meets it, or just beside it; where that narrows the sizes in
    question slowly, the next trial is in their middle. The answer and the next larger batch have
    both been tried, unless the answer is ``most``.

    Args:
        peak_bytes: peak by batch size; does not fall as the batch grows.
        budget_bytes: limit.
        starts: batch sizes to begin with, at least one, from 1 to ``most``.
        most: largest size that is tried.
    """
    known = {start: peak_bytes(start) for start in starts}
    open_sizes: list[int] = []
    while True:
        fits = max((b for b, peak in known.items() if peak <= budget_bytes), default=0)
        fails = min((b for b, peak in known.items() if peak > budget_bytes), default=None)
        if fits >= most or (fails is not None and fails - fits == 1):
            return fits
        if fails is None:
            trial = min(_larger(known, budget_bytes, fits), most)
        else:
            open_sizes.append(fails - fits)
            trial = _between(known, budget_bytes, fits, fails, _is_slow(open_sizes))
        known[trial] = peak_bytes(trial)


def _larger(known: dict[int, int], budget_bytes: int, fits: int) -> int:
    """The next trial while everything has fitted."""
    if len(known) == 1:
        return fits * 2
    guess = _line(known, budget_bytes)
    if guess is None:
        return _FLAT_GROWTH * fits
    return min(max(guess, fits + 1), _MOST_GROWTH * fits)


def _between(known: dict[int, int], budget_bytes: int, fits: int, fails: int, is_slow: bool) -> int:
    """The next trial between a size that fits and one that does not."""
    guess = None if is_slow or len(known) == 1 else _line(known, budget_bytes)
    if guess is None:
        return (fits + fails) // 2
    return min(max(guess, fits + 1), fails - 1)


def _is_slow(open_sizes: Sequence[int]) -> bool:
    """Whether less than a halving for every two trials was reached, after the first two."""
    halvings = max(len(open_sizes) - 2, 0) // 2
    return open_sizes[-1] << halvings > open_sizes[0]


def _line(known: dict[int, int], budget_bytes: int) -> int | None:
    """Where the line through the two points nearest to the budget meets it; None if it is flat."""
    nearest = sorted(known, key=lambda batch: abs(known[batch] - budget_bytes))[:2]
    low, high = min(nearest), max(nearest)
    slope = (known[high] - known[low]) / (high - low)
    if slope <= 0:
        return None
    return int(low + (budget_bytes - known[low]) / slope)
