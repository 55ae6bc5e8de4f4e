"""Walks over all groups of units, each extended by one unit at a time; compiled.

What a group gathers (storages made inside it that it saves, or that its units read) is counted
once, however many of its units hold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.envs.backward_base import BackwardBase
from remora.envs.jit import kernel
from remora.envs.levels import UnitLevels
from remora.envs.storages import CrossingStorages
from remora.schedule.chain import Chain
from remora.simulator.compiled.problem_arrays import ragged

__all__ = ["GroupRows", "fill_groups", "group_rows"]

Ints = NDArray[np.int64]


class GroupRows(NamedTuple):
    """What walks read; n units, x crossing storages.

    Attributes:
        fixed, saves: whether a unit stands in no group, and whether it saves anything.  # [n]
        forward, again, stopped, passing: rises while a unit runs first, again, again up to what it
            saves last, and again without keeping what it saves.  # [n]
        inside, late: bytes that it saves for itself, and that it makes and the program holds into
            the backward.  # [n]
        before, during: what its backward takes above that.  # [n]
        first_forward: what every forward takes.  # [1]
        size, maker: bytes and units.  # [x]
        made_since: see :class:`.CrossingStorages`.  # [n + 1][n + 1]
        saved, own, inputs, border: storages that a unit saves, those of them that it makes, that
            it reads, and that are on its border; row by row.
        saved_start, own_start, inputs_start, border_start: where rows begin.  # [n + 1]
        taken: scratch: the group that gathered a storage last.  # [x]
    """

    fixed: Ints
    saves: Ints
    forward: Ints
    again: Ints
    stopped: Ints
    passing: Ints
    inside: Ints
    late: Ints
    before: Ints
    during: Ints
    first_forward: Ints
    size: Ints
    maker: Ints
    made_since: Ints
    saved_start: Ints
    saved: Ints
    own_start: Ints
    own: Ints
    inputs_start: Ints
    inputs: Ints
    border_start: Ints
    border: Ints
    taken: Ints


def group_rows(
    chain: Chain, storages: CrossingStorages, levels: UnitLevels, base: BackwardBase
) -> GroupRows:
    """Gather what walks read."""
    units, number, maker = chain.units, storages.number, storages.maker
    storage_rows = [[entry.storage for entry in unit.saved] for unit in units]
    saved = [_numbers(number, row) for row in storage_rows]
    own = [[x for x in row if maker[x] >= unit] for unit, row in enumerate(saved)]
    return GroupRows(
        _ints(unit.fixed for unit in units),
        _ints(bool(unit.saved) for unit in units),
        _ints(levels.forward(unit, None) for unit in units),
        _ints(levels.rerun(unit, keep=True, stop=False) for unit in units),
        _ints(levels.rerun(unit, keep=True, stop=True) for unit in units),
        _ints(levels.rerun(unit, keep=False, stop=False) for unit in units),
        _ints(map(levels.inside_bytes, storage_rows)),
        storages.held_into_backward,
        np.asarray(base.before, dtype=np.int64),
        np.asarray(base.during, dtype=np.int64),
        _ints([base.forward]),
        storages.size,
        maker,
        storages.border_made_since,
        *ragged(saved),
        *ragged(own),
        *ragged([_numbers(number, unit.inputs) for unit in units]),
        *ragged(storages.border[: len(units)]),
        np.zeros(len(maker), dtype=np.int64),
    )


def _numbers(number: dict[int, int], row: Iterable[int]) -> list[int]:
    """Crossing storages among some, each once."""
    return [number[storage] for storage in dict.fromkeys(row) if storage in number]


def _ints(values: Iterable[int]) -> Ints:
    return np.array([int(value) for value in values], dtype=np.int64)


@kernel
def fill_groups(rows: GroupRows, forward: Ints, plain: Ints, nested: Ints) -> None:
    """Fill the tables of :class:`.Segments` for all groups without a fixed unit."""
    units = len(rows.fixed)
    for start in range(units):
        end = start
        while end < units and not rows.fixed[end]:
            end += 1
        _walk_forward(rows, start, end, forward)
        rows.taken[:] = -1
        _walk_plain(rows, start, end, plain)
        rows.taken[:] = -1
        _walk_nested(rows, start, end, nested)


@kernel
def _walk_forward(rows: GroupRows, start: int, end: int, found: Ints) -> None:
    peak = 0
    for unit in range(start, end):
        level = rows.made_since[unit, start] + rows.first_forward[0]
        peak = max(peak, level + rows.forward[unit])
        found[start, unit + 1] = peak


@kernel
def _walk_plain(rows: GroupRows, start: int, end: int, found: Ints) -> None:
    saved = rerun = backward = inside = late = 0
    for unit in range(start, end):
        late += rows.late[unit]
        # The last unit stops early, so it joins the rest afterwards.
        level = inside + saved + _new_bytes(rows, start, rows.border, rows.border_start, unit)
        rerun_peak = max(rerun, level + rows.stopped[unit])
        rerun = max(rerun, level + rows.again[unit])
        inside += rows.inside[unit]
        saved += _take(rows, start, rows.saved, rows.saved_start, unit)
        backward = max(backward, inside + saved + rows.during[unit] + late)
        found[start, unit + 1] = max(backward, rows.before[unit] + late + rerun_peak)


@kernel
def _walk_nested(rows: GroupRows, start: int, end: int, found: Ints) -> None:
    captured = passing = alone = late = 0
    for unit in range(start, end):
        late += rows.late[unit]
        before = rows.before[unit] + late
        captured += _take(rows, start, rows.inputs, rows.inputs_start, unit)
        level = captured + _new_bytes(rows, start, rows.border, rows.border_start, unit)
        level += rows.passing[unit]
        # A last unit with something to recompute is not part of the first run.
        first_run = passing if rows.saves[unit] else max(passing, level)
        passing = max(passing, level)
        own = captured + _new_bytes(rows, start, rows.own, rows.own_start, unit)
        own += rows.inside[unit] + rows.during[unit] + late
        alone = max(alone, captured + before + rows.stopped[unit], own)
        found[start, unit + 1] = max(alone, before + first_run)


@kernel
def _new_bytes(rows: GroupRows, start: int, entries: Ints, first: Ints, unit: int) -> int:
    """Bytes of storages of a unit that were made in the group and not gathered."""
    total = 0
    for place in range(first[unit], first[unit + 1]):
        storage = entries[place]
        if rows.taken[storage] != start and rows.maker[storage] >= start:
            total += rows.size[storage]
    return int(total)


@kernel
def _take(rows: GroupRows, start: int, entries: Ints, first: Ints, unit: int) -> int:
    """Gather them; returns their bytes."""
    total = _new_bytes(rows, start, entries, first, unit)
    for place in range(first[unit], first[unit + 1]):
        if rows.maker[entries[place]] >= start:
            rows.taken[entries[place]] = start
    return total
