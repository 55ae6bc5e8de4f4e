"""Seconds that decisions add, and the bound on the step time that they make; compiled."""

from __future__ import annotations

from remora.envs.arrays import (
    BOUND,
    COMPUTE,
    LOAD,
    PLACE,
    ROW,
    STORE,
    Episodes,
    Tables,
)
from remora.envs.columns import STATE_STEP_S, WORK_S
from remora.envs.jit import kernel

__all__ = ["fill_bound", "group_s"]

# Sums of many seconds differ by as much with the order in which they are added up.
_ROUNDED_DOWN = 1 - 1e-12


@kernel
def group_s(tables: Tables, row: int, start: int, end: int, nested: bool) -> float:
    """Seconds of running units ``start`` to ``end - 1`` again, in one micro-batch."""
    again = tables.again_s[row]
    total = again[end - 1, 0] - again[start, 0] + again[end, 1] - again[end - 1, 1]
    if nested:
        # The last unit runs once, by itself or in the run of the group.
        total += again[end - 1, 2] - again[start, 2]
    return float(total)


@kernel
def fill_bound(tables: Tables, episodes: Episodes, e: int) -> None:
    """A step is at least as long as what is decided on any one stream."""
    row, reals = episodes.ints[e, ROW], episodes.reals[e]
    compute_s = (
        reals[COMPUTE]
        + tables.reals[row, WORK_S]
        + tables.reals[row, STATE_STEP_S + episodes.ints[e, PLACE]]
    )
    reals[BOUND] = _ROUNDED_DOWN * max(compute_s, reals[STORE], reals[LOAD])
