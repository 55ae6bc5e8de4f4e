"""The largest batch whose peak fits, found with few traces because peaks grow almost linearly."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["largest_batch"]

_LINE_TRIALS = 6
_MOST_GROWTH = 8
_MOST = 2**20


def largest_batch(peak_bytes: Callable[[int], int], budget_bytes: int, start: int) -> int:
    """Return the largest batch whose peak is within the budget; 0 if not even one sample is.

    Peaks are almost straight lines in the batch, so the next trial is where the line through the
    two trials nearest to the budget meets it, or just beside it; after a few of those, halving
    what is left ends the search in any case. A million samples are enough and end it too.

    Args:
        peak_bytes: peak by batch size; does not fall as the batch grows.
        budget_bytes: limit.
        start: batch size to begin with, at least 1.
    """
    known = {start: peak_bytes(start)}
    while True:
        fits = max((b for b, peak in known.items() if peak <= budget_bytes), default=0)
        fails = min((b for b, peak in known.items() if peak > budget_bytes), default=None)
        if fits >= _MOST or (fails is not None and fails - fits == 1):
            return fits
        trial = _next_trial(known, budget_bytes, fits, fails)
        known[trial] = peak_bytes(trial)


def _next_trial(known: dict[int, int], budget_bytes: int, fits: int, fails: int | None) -> int:
    if len(known) == 1 or (fails is None and len(known) > _LINE_TRIALS):
        return fits * 2 if fails is None else fails // 2
    if fails is not None and len(known) > _LINE_TRIALS:
        return (fits + fails) // 2
    guess = _line(known, budget_bytes)
    highest = fails - 1 if fails is not None else _MOST_GROWTH * fits
    return min(max(guess, fits + 1), highest)


def _line(known: dict[int, int], budget_bytes: int) -> int:
    """Where the line through the two points nearest to the budget meets it."""
    nearest = sorted(known, key=lambda batch: abs(known[batch] - budget_bytes))[:2]
    low, high = min(nearest), max(nearest)
    slope = (known[high] - known[low]) / (high - low)
    if slope <= 0:
        return high * 2
    return int(low + (budget_bytes - known[low]) / slope)
