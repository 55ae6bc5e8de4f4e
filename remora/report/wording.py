"""Figures as people read them: GiB and milliseconds, only at the edge of the program."""

from __future__ import annotations

__all__ = ["bytes_text", "duration_text", "overhead_text", "percent_text"]

_BYTE_STEPS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_TIME_STEPS = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "us"))


def bytes_text(num_bytes: float) -> str:
    """Return a number of bytes with three or four significant digits and a binary unit."""
    for size, name in _BYTE_STEPS:
        if abs(num_bytes) >= size:
            return f"{num_bytes / size:.2f} {name}"
    return f"{num_bytes:.0f} B"


def duration_text(time_s: float) -> str:
    """Return seconds as s, ms or us, whichever leaves a number of at least one."""
    for smallest, factor, name in _TIME_STEPS:
        if abs(time_s) >= smallest:
            return f"{time_s * factor:.2f} {name}"
    return f"{time_s * 1e6:.2f} us"


def overhead_text(time_s: float, reference_s: float) -> str:
    """Return how much longer ``time_s`` is than ``reference_s``, as a signed percentage."""
    if reference_s <= 0:
        return "-"
    # Adding zero turns a rounded minus zero into plus zero.
    return f"{round((time_s / reference_s - 1) * 100, 1) + 0.0:+.1f} %"


def percent_text(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{share * 100:.1f} %"
