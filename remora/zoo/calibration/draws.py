"""Random sizes of blocks: thin and wide, odd and even, powers of two and not."""

from __future__ import annotations

import random

__all__ = ["divisor", "head_sizes", "inner_width", "log_uniform"]


def log_uniform(rng: random.Random, least: int, most: int) -> int:
    """Draw an integer between ``least`` and ``most``, every octave as likely as any other."""
    if most <= least:
        return least
    drawn: float = least * (most / least) ** rng.random()
    return min(most, round(drawn))


def inner_width(rng: random.Random, width: int, largest_ratio: int = 4) -> int:
    """Draw the inner width of a block, at least 4.

    Half of the draws are rounded up to a multiple of 8, 32 or 64, as people choose widths; the
    others meet the kernels for unaligned matrices.

    Args:
        rng: source of randomness.
        width: outer width.
        largest_ratio: the inner width lies between a quarter of and this many times ``width``,
            before rounding up.
    """
    drawn = log_uniform(rng, max(4, width // 4), max(4, largest_ratio * width))
    multiple = rng.choice((1, 1, 1, 8, 32, 64))
    return -(-drawn // multiple) * multiple if drawn >= multiple else drawn


def divisor(rng: random.Random, number: int, most: int | None = None) -> int:
    """Draw a divisor of ``number``, at most ``most``."""
    limit = number if most is None else min(number, most)
    return rng.choice([d for d in range(1, limit + 1) if number % d == 0])


def head_sizes(rng: random.Random, width: int) -> tuple[int, int]:
    """Draw the heads and the (even) width of one head of an attention over ``width``."""
    head_width = 2 * log_uniform(rng, 4, 64)
    if rng.random() < 0.5:
        head_width = rng.choice((16, 32, 64, 128))
    head_width = min(head_width, max(4, width // 2 * 2))
    heads = max(1, round(width / head_width * rng.choice((0.5, 1.0, 1.0, 1.5))))
    return heads, head_width
