"""Peaks of groups of units, and of the least-memory completion of what is not decided yet.

Memory of one device is a stack: unit c and all after it come and go above what the units before c
hold. So a group has a peak of its own above that, and the best way to complete the units from c on
has one too, found from the end by Bellman's equation. Both are upper bounds above a *base*: what
earlier units hold, and the whole border of c (see :class:`CrossingStorages`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.envs.joint.actions import PACES
from remora.envs.joint.backward_base import BackwardBase
from remora.envs.joint.levels import UnitLevels
from remora.envs.joint.storages import CrossingStorages
from remora.schedule.chain import Chain, ChainUnit

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
    walker = _Walker(chain, storages, levels, base)
    for start in range(n):
        walker.walk(start, found)
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


class _Walker:
    """Extends the groups that begin at one unit, one unit at a time."""

    def __init__(
        self, chain: Chain, storages: CrossingStorages, levels: UnitLevels, base: BackwardBase
    ) -> None:
        self._units = chain.units
        self._storages = storages
        self._base = base
        number = storages.number
        saved = [[s.storage for s in unit.saved] for unit in chain.units]
        self._saved = [[number[s] for s in row if s in number] for row in saved]
        self._inputs = [[number[s] for s in u.inputs if s in number] for u in chain.units]
        self._inside = [levels.inside_bytes(row) for row in saved]
        self._forward = [levels.forward(u, None) for u in chain.units]
        self._again = [levels.rerun(u, keep=True, stop=False) for u in chain.units]
        self._again_stopped = [levels.rerun(u, keep=True, stop=True) for u in chain.units]
        self._passing = [levels.rerun(u, keep=False, stop=False) for u in chain.units]
        self._late = storages.held_into_backward

    def walk(self, start: int, found: Segments) -> None:
        """Fill the row of groups that begin at ``start``."""
        base, made_since = self._base, self._storages.border_made_since
        forward = plain = nested = passing = inside = late = 0
        saved: set[int] = set()  # crossing storages made in the group that its backward needs
        captured: set[int] = set()  # those that its units read
        rerun = 0
        for unit in self._units[start:]:
            if unit.fixed:
                return
            j, end = unit.index, unit.index + 1
            forward = max(forward, int(made_since[j, start]) + self._forward[j] + base.forward)
            late += int(self._late[j])
            before = int(base.before[j]) + late
            # A run of the whole group: the last unit stops early, so it joins the rest afterwards.
            level = inside + self._bytes(saved | self._on_border(j, start))
            rerun_peak = before + max(rerun, level + self._again_stopped[j])
            rerun = max(rerun, level + self._again[j])
            inside += self._inside[j]
            saved |= self._made_since(self._saved[j], start)
            during = int(base.during[j]) + late
            plain = max(plain, inside + self._bytes(saved) + during)
            found.forward[start, end] = forward
            found.plain[start, end] = max(rerun_peak, plain)
            # A run that keeps inputs only, then unit by unit.
            captured |= self._made_since(self._inputs[j], start)
            held = self._bytes(captured | self._on_border(j, start))
            if not unit.saved:
                passing = max(passing, held + self._passing[j])
            alone = self._alone(unit, captured, late)
            nested = max(nested, alone)
            found.nested[start, end] = max(before + passing, nested)
            passing = max(passing, held + self._passing[j])

    def _alone(self, unit: ChainUnit, captured: set[int], late: int) -> int:
        """Peak of running a unit again from its kept inputs, and of its backward."""
        j = unit.index
        held = self._bytes(captured)
        own = self._bytes(self._made_since(self._saved[j], j) - captured) + self._inside[j]
        again = int(self._base.before[j]) + self._again_stopped[j]
        return held + late + max(again, own + int(self._base.during[j]))

    def _on_border(self, unit: int, start: int) -> set[int]:
        return self._made_since(self._storages.border[unit], start)

    def _made_since(self, numbers: Iterable[int], start: int) -> set[int]:
        return {number for number in numbers if self._storages.maker[number] >= start}

    def _bytes(self, numbers: Iterable[int]) -> int:
        return int(sum(self._storages.size[number] for number in numbers))
