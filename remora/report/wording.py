"""Figures as people read them: GiB and milliseconds, only at the edge of the program."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum

__all__ = [
    "bytes_scale",
    "bytes_text",
    "compared_text",
    "duration_text",
    "kind_text",
    "overhead_text",
    "percent_text",
    "ranges_text",
    "time_scale",
]

_BYTE_STEPS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_TIME_STEPS = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "us"))


def bytes_text(num_bytes: float) -> str:
    """Return a number of bytes with three or four significant digits and a binary unit."""
    for size, name in _BYTE_STEPS:
        if abs(num_bytes) >= size:
            return f"{num_bytes / size:.2f} {name}"
    return f"{num_bytes:.0f} B"


def duration_text(time_s: float) -> str:
    """Return seconds as s, ms or us, whichever leaves a number of at least one; - for infinity."""
    if math.isinf(time_s):
        return "-"
    for smallest, factor, name in _TIME_STEPS:
        if abs(time_s) >= smallest:
            return f"{time_s * factor:.2f} {name}"
    return f"{time_s * 1e6:.2f} us"


def overhead_text(time_s: float, reference_s: float) -> str:
    """Return how much longer ``time_s`` is than ``reference_s``, as a signed percentage."""
    if reference_s <= 0 or math.isinf(time_s):
        return "-"
    # Adding zero turns a rounded minus zero into plus zero.
    return f"{round((time_s / reference_s - 1) * 100, 1) + 0.0:+.1f} %"


def compared_text(time_s: float, reference_s: float) -> str:
    """Return how ``time_s`` compares in words, to go on with "keeping all" or the like."""
    if reference_s <= 0 or math.isinf(time_s):
        return "not to be compared with"
    percent = round((time_s / reference_s - 1) * 100, 1)
    if not percent:
        return "as long as"
    return f"{abs(percent):.1f} % {'more' if percent > 0 else 'less'} than"


def percent_text(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{share * 100:.1f} %"


def time_scale(longest_s: float) -> tuple[float, str]:
    """Return the factor from seconds to the unit that suits ``longest_s``, and its name."""
    for smallest, factor, name in _TIME_STEPS:
        if longest_s >= smallest:
            return factor, name
    return 1.0, "s"


def bytes_scale(largest_bytes: float) -> tuple[float, str]:
    """Return the size of the unit that suits ``largest_bytes``, and its name."""
    for size, name in _BYTE_STEPS:
        if largest_bytes >= size:
            return float(size), name
    return 1.0, "B"


def kind_text(kind: StrEnum) -> str:
    """Return the name of a kind in words."""
    return str(kind).replace("_", " ")


def ranges_text(numbers: Iterable[int]) -> str:
    """Return ascending numbers with runs of neighbours joined, for example ``0-3, 7``."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
