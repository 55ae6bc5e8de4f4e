"""Peaks of groups of units, and of the least-memory completion of what is not decided yet.

Memory of one device is a stack: unit c and all after it come and go above what the units before c
hold. So a group has a peak of its own above that, and the best way to complete the units from c on
has one too, found from the end by Bellman's equation. Both are upper bounds above a *base*: what
earlier units hold, and the whole border of c (see :class:`CrossingStorages`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import PACES
from remora.envs.backward_base import BackwardBase
from remora.envs.levels import UnitLevels
from remora.envs.storages import CrossingStorages
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
        fixed = (unit.index for unit in self._units[start:] if unit.fixed)
        units = self._units[start : next(fixed, len(self._units))]
        self._walk_forward(units, start, found.forward)
        self._walk_plain(units, start, found.plain)
        self._walk_nested(units, start, found.nested)

    def _walk_forward(self, units: Sequence[ChainUnit], start: int, found: Ints) -> None:
        made_since, peak = self._storages.border_made_since, 0
        for unit in units:
            level = int(made_since[unit.index, start]) + self._base.forward
            peak = max(peak, level + self._forward[unit.index])
            found[start, unit.index + 1] = peak

    def _walk_plain(self, units: Sequence[ChainUnit], start: int, found: Ints) -> None:
        saved = _Gathered(self._storages, start)
        rerun = backward = inside = late = 0
        for unit in units:
            j = unit.index
            late += int(self._late[j])
            # The last unit stops early, so it joins the rest afterwards.
            level = inside + saved.joined(self._storages.border[j])
            rerun_peak = max(rerun, level + self._again_stopped[j])
            rerun = max(rerun, level + self._again[j])
            inside += self._inside[j]
            saved.add(self._saved[j])
            during = int(self._base.during[j]) + late
            backward = max(backward, inside + saved.bytes + during)
            found[start, j + 1] = max(backward, int(self._base.before[j]) + late + rerun_peak)

    def _walk_nested(self, units: Sequence[ChainUnit], start: int, found: Ints) -> None:
        captured = _Gathered(self._storages, start)
        passing = alone = late = 0
        for unit in units:
            j = unit.index
            late += int(self._late[j])
            before = int(self._base.before[j]) + late
            captured.add(self._inputs[j])
            level = captured.joined(self._storages.border[j]) + self._passing[j]
            # A last unit with something to recompute is not part of the first run.
            first_run = passing if unit.saved else max(passing, level)
            passing = max(passing, level)
            own = captured.joined(self._made_by(j, self._saved[j])) + self._inside[j]
            again = captured.bytes + before + self._again_stopped[j]
            alone = max(alone, again, own + int(self._base.during[j]) + late)
            found[start, j + 1] = max(alone, before + first_run)

    def _made_by(self, unit: int, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if self._storages.maker[number] >= unit]


class _Gathered:
    """Some crossing storages made since the start of a group, and their bytes."""

    def __init__(self, storages: CrossingStorages, start: int) -> None:
        self._storages = storages
        self._start = start
        self._numbers: set[int] = set()
        self.bytes = 0

    def add(self, numbers: Iterable[int]) -> None:
        """Take some in, those from before the group left out."""
        new = self._new(numbers)
        self.bytes += self._bytes(new)
        self._numbers |= new

    def joined(self, numbers: Iterable[int]) -> int:
        """Bytes with some more."""
        return self.bytes + self._bytes(self._new(numbers))

    def _new(self, numbers: Iterable[int]) -> set[int]:
        maker = self._storages.maker
        return {n for n in numbers if n not in self._numbers and maker[n] >= self._start}

    def _bytes(self, numbers: Iterable[int]) -> int:
        return int(sum(self._storages.size[number] for number in numbers))
