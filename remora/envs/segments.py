"""Peaks of groups of units, and of the least-memory completion of what is not decided yet.

Memory of one device is a stack: unit c and all after it come and go above what the units before c
hold. So a group has a peak of its own above that, and the best way to complete the units from c on
has one too, found from the end by Bellman's equation. Both are upper bounds above a *base*: what
earlier units hold, and the whole border of c (see :class:`CrossingStorages`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import PACES
from remora.envs.backward_base import BackwardBase
from remora.envs.group_walks import fill_groups, group_rows
from remora.envs.levels import UnitLevels
from remora.envs.storages import CrossingStorages
from remora.schedule.chain import Chain

__all__ = ["NEAR_UNITS", "NEVER_FITS", "Completions", "Segments", "completions", "segments_of"]

Ints = NDArray[np.int64]

NEAR_UNITS = max(max(pace) for pace in PACES)
"""Longest that anything is on its way to or from the host, in units."""

NEVER_FITS = 2**60
"""Peak of what cannot be done."""


@dataclass(frozen=True)
class Segments:
    """Peaks of groups of units s to e - 1, at [s, e].

    Attributes:
        forward: of their forwards, above the base of the first unit.  # [n + 1][n + 1]
        plain: of the backwards, above what earlier units and the group hold of earlier ones, if
            the group runs again as a whole.  # [n + 1][n + 1]
        nested: the same if it runs again to keep every unit's input, then unit by unit.
            # [n + 1][n + 1]
    """

    forward: Ints
    plain: Ints
    nested: Ints


def segments_of(
    chain: Chain, storages: CrossingStorages, levels: UnitLevels, base: BackwardBase
) -> Segments:
    """Peaks of all groups that hold no fixed unit."""
    n = storages.num_units
    found = Segments(*(np.full((n + 1, n + 1), NEVER_FITS, dtype=np.int64) for _ in range(3)))
    rows = group_rows(chain, storages, levels, base)
    fill_groups(rows, found.forward, found.plain, found.nested)
    return found


@dataclass(frozen=True)
class Completions:
    """Least peaks of what is still to be decided, above the base of the first such unit.

    Attributes:
        rest: of units c and all after it.  # [n + 1]
        near: of those groups and units of the same completion that begin before unit c + k, at
            [c, k]; what is on its way to or from the host for so long counts for them alone.
            # [n + 1][NEAR_UNITS + 1]
    """

    rest: Ints
    near: Ints


def completions(
    keep_peak: Ints, keep_hold: Ints, segments: Segments, border_made_since: Ints
) -> Completions:
    """Find the completion of least peak from every unit on, the last first.

    Args:
        keep_peak: of keeping a unit, above its base.  # [n]
        keep_hold: by how much the base rises after that.  # [n]
        segments: peaks of groups.
        border_made_since: by how much the base rises after a group.  # [n + 1][n + 1]
    """
    n = len(keep_peak)
    rest = np.zeros(n + 1, dtype=np.int64)
    near = np.zeros((n + 1, NEAR_UNITS + 1), dtype=np.int64)
    backward = np.minimum(segments.plain, segments.nested)
    group_peak = np.maximum(segments.forward, backward)
    for unit in range(n - 1, -1, -1):
        ends = np.arange(unit + 1, n + 1)
        holds = border_made_since[ends, unit]
        peaks = np.maximum(group_peak[unit, ends], holds + rest[ends])  # [n - unit]
        best = int(np.argmin(peaks))
        own, end, hold = int(group_peak[unit, unit + 1 + best]), unit + 1 + best, int(holds[best])
        kept = max(int(keep_peak[unit]), int(keep_hold[unit] + rest[unit + 1]))
        if kept <= peaks[best]:
            own, end, hold = int(keep_peak[unit]), unit + 1, int(keep_hold[unit])
        rest[unit] = max(own, hold + int(rest[end]))
        left = np.arange(NEAR_UNITS + 1) - (end - unit)  # [NEAR_UNITS + 1]
        near[unit] = np.where(left > 0, np.maximum(own, hold + near[end, np.maximum(left, 0)]), own)
    return Completions(rest, near)
