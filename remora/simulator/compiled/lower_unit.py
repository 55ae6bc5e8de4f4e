"""Forward of one unit: what it holds, makes and lets go of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.columns import (
    ACTION_START,
    BYTES,
    CHILD_LEVELS,
    COMPRESSED_BYTES,
    CURRENT,
    DROPPED,
    FORWARD_S,
    HELD,
    HOLDERS,
    IN_STOP,
    KEPT_BYTES,
    LAST_READER,
    MADE,
    MAKER,
    MOVED,
    NUM_MOVED,
    OFFLOADED_BYTES,
    PROGRAM,
    READ_END,
    READ_START,
    REGION_LEVELS,
    RERUN_LEVELS,
    RERUN_S,
    SAVED,
    SAVED_BYTES,
    SEGMENT_START,
    SIZE,
    STOP_LEVELS,
    STOP_S,
)
from remora.simulator.compiled.items import COMPUTE, STORE, Items, add_item
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, drop_program, find, make, only_program, push
from remora.simulator.compiled.option_rows import KEPT, OFFLOADED
from remora.simulator.compiled.work import KEEP_ALL, Work, compute, reads_list, store_list

__all__ = ["run_option", "run_unit"]

Ints = NDArray[np.int64]


@kernel
def run_option(items: Items, live: Live, work: Work, row: int, unit: int, num_stores: int) -> int:
    """Forward of a unit outside of regions; returns the number of host copies so far."""
    chain, rows, task = work.chain, work.rows, work.task
    for place in range(rows.ints[row, READ_START], rows.ints[row, READ_END]):
        storage = rows.values[place]
        live.instance[live.cross[storage, CURRENT], HOLDERS] += 1
        push(live, reads_list(work, unit), storage, live.cross[storage, CURRENT])
    sources = store_list(work, num_stores)
    first = chain.table[SAVED, unit]
    for place in range(first, chain.table[SAVED, unit + 1]):
        storage = chain.values[place]
        if chain.cross[storage, MAKER] != unit:
            action = rows.values[rows.ints[row, ACTION_START] + place - first]
            _hold_saved(live, storage, place, action, sources)
    peak = _peak(live, work, rows.values, rows.ints[row, SEGMENT_START], unit, 0)
    change = rows.ints[row, KEPT_BYTES] + rows.ints[row, COMPRESSED_BYTES]
    change += _make_crossing(live, work, unit, 0, False, 0)
    for place in range(first, chain.table[SAVED, unit + 1]):
        storage = chain.values[place]
        if chain.cross[storage, MAKER] == unit:
            action = rows.values[rows.ints[row, ACTION_START] + place - first]
            alone = live.instance[storage, HOLDERS] == 0
            if action in (KEPT, OFFLOADED):
                _hold_saved(live, storage, place, action, sources)
                change += chain.cross[storage, SIZE] if alone else 0
    change -= _drop_inputs(live, work, unit, 0)
    compute(items, work, COMPUTE, unit, rows.seconds[row, 0], peak, change, unit + 1, False)
    if work.fetches.cache[unit] > 0:
        return _store_cache(items, work, unit, num_stores)
    if rows.ints[row, NUM_MOVED] == 0:
        return num_stores
    task.store[num_stores, 0] = unit
    task.store[num_stores, 1] = -1
    task.store[num_stores, 2] = unit - task.span[0] + task.span[2]
    task.store_bytes[num_stores, 0] = rows.ints[row, OFFLOADED_BYTES]
    task.store_bytes[num_stores, 1] = rows.ints[row, MOVED]
    task.store_bytes[num_stores, 2] = rows.ints[row, NUM_MOVED]
    add_item(items, STORE, unit, num_stores, rows.ints[row, MOVED], rows.seconds[row, 1])
    return num_stores + 1


@kernel
def _store_cache(items: Items, work: Work, unit: int, num_stores: int) -> int:
    """Write back what a unit added to its cache; returns the number of host copies so far."""
    task, fetches = work.task, work.fetches
    task.store[num_stores, 0] = unit
    task.store[num_stores, 1] = -1
    task.store[num_stores, 2] = unit - task.span[0] + task.span[2]
    task.store_bytes[num_stores, 0] = fetches.cache[unit]
    task.store_bytes[num_stores, 1] = 0
    task.store_bytes[num_stores, 2] = 0
    add_item(items, STORE, unit, num_stores, 0, fetches.store_s[unit])
    return num_stores + 1


@kernel
def _hold_saved(live: Live, storage: int, place: int, action: int, sources: int) -> None:
    instance = live.cross[storage, CURRENT]
    if action == KEPT:
        live.instance[instance, HOLDERS] += 1
        live.saved_at[place] = instance
    elif action == OFFLOADED:
        live.instance[instance, HOLDERS] += 1
        push(live, sources, storage, instance)


@kernel
def _peak(live: Live, work: Work, levels: Ints, first: int, unit: int, generation: int) -> int:
    """Peak of a forward, less what it lets go of that nobody else holds."""
    chain = work.chain
    peak, freed, segment = max(0, levels[first]), 0, first
    for place in range(chain.table[DROPPED, unit], chain.table[DROPPED, unit + 1]):
        instance = find(live, chain.values[place], generation)
        if only_program(live, instance):
            freed += live.instance[instance, BYTES]
        segment += 1
        peak = max(peak, levels[segment] - freed)
    return int(peak)


@kernel
def _make_crossing(
    live: Live, work: Work, unit: int, generation: int, stops: bool, region_end: int
) -> int:
    """Crossing storages that a forward makes, held by the program and by other stages."""
    chain, task = work.chain, work.task
    grown = 0
    for place in range(chain.table[MADE, unit], chain.table[MADE, unit + 1]):
        storage = chain.values[place]
        if stops and not chain.cross[storage, IN_STOP]:
            continue
        instance = make(live, storage, generation, chain.cross[storage, SIZE])
        live.cross[storage, CURRENT] = instance
        if chain.cross[storage, HELD] and (
            generation == 0 or _read_before(work, storage, unit, region_end)
        ):
            live.instance[instance, HOLDERS] += 1
            live.instance[instance, PROGRAM] = 1
        if generation == 0 and chain.cross[storage, LAST_READER] >= task.span[1]:
            live.instance[instance, HOLDERS] += 1
        if live.instance[instance, HOLDERS] > 0:
            grown += chain.cross[storage, SIZE]
    return grown


@kernel
def _read_before(work: Work, storage: int, unit: int, end: int) -> bool:
    """Whether a unit after ``unit`` and before ``end`` reads a storage."""
    chain, found = work.chain, False
    for place in range(chain.reader_start[storage], chain.reader_start[storage + 1]):
        found = found or unit < chain.readers[place] < end
    return found


@kernel
def _drop_inputs(live: Live, work: Work, unit: int, generation: int) -> int:
    chain = work.chain
    freed = 0
    for place in range(chain.table[DROPPED, unit], chain.table[DROPPED, unit + 1]):
        freed += drop_program(live, find(live, chain.values[place], generation))
    return freed


@kernel
def run_unit(
    items: Items,
    live: Live,
    work: Work,
    unit: int,
    generation: int,
    keeping: int,
    stops: bool,
    upcoming: int,
    region_end: int,
) -> None:
    """Forward of a unit in a region, or its rerun: it keeps everything or nothing."""
    chain = work.chain
    keeps = keeping == KEEP_ALL
    if keeps:
        for place in range(chain.table[SAVED, unit], chain.table[SAVED, unit + 1]):
            storage = chain.values[place]
            if chain.cross[storage, MAKER] != unit:
                live.instance[live.cross[storage, CURRENT], HOLDERS] += 1
                live.saved_at[place] = live.cross[storage, CURRENT]
    levels = REGION_LEVELS if generation == 0 else CHILD_LEVELS
    seconds = chain.seconds[unit, FORWARD_S] if generation == 0 else chain.seconds[unit, RERUN_S]
    if keeps:
        levels = STOP_LEVELS if stops else RERUN_LEVELS
    if stops:
        seconds = chain.seconds[unit, STOP_S]
    peak = _peak(live, work, chain.values, chain.table[levels, unit], unit, generation)
    change = _make_crossing(live, work, unit, generation, stops, region_end)
    if keeps:
        change += chain.unit[unit, SAVED_BYTES]
        for place in range(chain.table[SAVED, unit], chain.table[SAVED, unit + 1]):
            storage = chain.values[place]
            if chain.cross[storage, MAKER] == unit:
                instance = live.cross[storage, CURRENT]
                change += chain.cross[storage, SIZE] if live.instance[instance, HOLDERS] == 0 else 0
                live.instance[instance, HOLDERS] += 1
                live.saved_at[place] = instance
    change -= _drop_inputs(live, work, unit, generation)
    compute(items, work, COMPUTE, unit, seconds, peak, change, upcoming, upcoming == unit)
