"""Seconds that decisions add, and the bound on the step time that they make; compiled."""

from __future__ import annotations

from remora.envs.joint.arrays import (
    BOUND,
    COMPUTE,
    LOAD,
    PLACE,
    ROW,
    STORE,
    Episodes,
    Tables,
)
from remora.envs.joint.jit import kernel

__all__ = ["fill_bound", "group_s"]

# Sums of many seconds differ by as much with the order in which they are added up.
_ROUNDED_DOWN = 1 - 1e-12


@kernel
def group_s(tables: Tables, row: int, start: int, end: int, nested: bool) -> float:
    """Seconds of running units ``start`` to ``end - 1`` again, in all micro-batches."""
    again = tables.again_s[row]
    total = again[end - 1, 0] - again[start, 0] + again[end, 1] - again[end - 1, 1]
    if nested:
        # The last unit runs once, by itself or in the run of the group.
        total += again[end - 1, 2] - again[start, 2]
    return float(tables.sizes[row, 0] * total)


@kernel
def fill_bound(tables: Tables, episodes: Episodes, e: int) -> None:
    """A step is at least as long as what is decided on any one stream."""
    row, reals = episodes.ints[e, ROW], episodes.reals[e]
    compute_s = reals[COMPUTE] + tables.work_s[row] + tables.step_s[row, episodes.ints[e, PLACE]]
    reals[BOUND] = _ROUNDED_DOWN * max(compute_s, reals[STORE], reals[LOAD])
