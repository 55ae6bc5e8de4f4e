"""Bringing back what a unit saved, before its backward."""

from __future__ import annotations

from remora.simulator.compiled.columns import (
    ACTION_START,
    COMPRESSED_BYTES,
    HAS_INPUTS,
    NUM_MOVED,
    OUTER,
    RERUN_INSIDE,
    RERUN_PEAK,
    RERUNS,
    RESTORED,
    RESTORED_INSIDE,
    SAVED,
    SIZE,
)
from remora.simulator.compiled.items import COMPUTE, WAIT_LOAD, Items, add_item
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, drop
from remora.simulator.compiled.lower_region import materialise
from remora.simulator.compiled.option_rows import COMPRESSED, RERUN
from remora.simulator.compiled.work import Work, compute, private, reads_list

__all__ = ["prepare_backward", "remake", "waits_for_weights"]


@kernel
def waits_for_weights(work: Work, unit: int) -> bool:
    """Whether nothing that a unit saved is needed before the second half of its backward."""
    return bool(unit == work.task.span[0] and work.chain.unit[unit, HAS_INPUTS] == 0)


@kernel
def prepare_backward(items: Items, live: Live, work: Work, unit: int) -> None:
    """Append the items that bring everything back that a unit saved."""
    region = work.regions.unit[unit, OUTER]
    if region >= 0:
        materialise(items, live, work, region, unit)
    else:
        _bring_back(items, live, work, work.chosen[unit], unit)


@kernel
def remake(live: Live, work: Work, row: int, unit: int, action: int) -> int:
    """Saved crossing storages of one action exist again; returns their bytes."""
    chain, rows = work.chain, work.rows
    first, grown = chain.table[SAVED, unit], 0
    for place in range(first, chain.table[SAVED, unit + 1]):
        if rows.values[rows.ints[row, ACTION_START] + place - first] == action:
            live.saved_at[place] = private(live, work, chain.values[place])
            grown += chain.cross[chain.values[place], SIZE]
    return grown


@kernel
def _bring_back(items: Items, live: Live, work: Work, row: int, unit: int) -> None:
    """Wait for what a unit's option moved, restore what it compressed, run again what it must."""
    rows = work.rows
    if rows.ints[row, NUM_MOVED] > 0:
        add_item(items, WAIT_LOAD, unit, _store_of_unit(work, unit), 0, 0.0)
    if rows.ints[row, COMPRESSED_BYTES] > 0:
        live.next[1] += 1
        change = rows.ints[row, RESTORED_INSIDE] + remake(live, work, row, unit, COMPRESSED)
        change -= rows.ints[row, COMPRESSED_BYTES]
        seconds = rows.seconds[row, 3]
        peak = rows.ints[row, RESTORED]
        compute(items, work, COMPUTE, unit, seconds, peak, change, unit, True)
    if rows.ints[row, RERUNS]:
        live.next[1] += 1
        change = rows.ints[row, RERUN_INSIDE] + remake(live, work, row, unit, RERUN)
        place = live.head[reads_list(work, unit)]
        while place >= 0:
            change -= drop(live, live.link[place, 2])
            place = live.link[place, 0]
        seconds = rows.seconds[row, 4]
        peak = rows.ints[row, RERUN_PEAK]
        compute(items, work, COMPUTE, unit, seconds, peak, change, unit, True)


@kernel
def _store_of_unit(work: Work, unit: int) -> int:
    task = work.task
    store = 0
    while task.store[store, 0] != unit or task.store[store, 1] >= 0:
        store += 1
    return store
