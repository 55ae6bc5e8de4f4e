"""The forward task of a stage."""

from __future__ import annotations

from remora.simulator.compiled.backward_parts import drop_all
from remora.simulator.compiled.columns import (
    AFTER,
    BEFORE,
    BYTES,
    CURRENT,
    DROPPED,
    HOLDERS,
    INPUTS,
    LAST_READER,
    MAKER,
    OFFLOAD,
    OUTER,
    PEAK,
    START,
)
from remora.simulator.compiled.items import CARRY, RELEASE, START_FORWARD, TAIL, Items, add_item
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, drop, drop_program, find
from remora.simulator.compiled.lower_region import capture, store_region
from remora.simulator.compiled.lower_unit import run_option, run_unit
from remora.simulator.compiled.work import KEEP_NOTHING, Work, store_list

__all__ = ["end_pass", "lower_forward"]


@kernel
def lower_forward(items: Items, live: Live, work: Work) -> None:
    """Append the items of a forward."""
    chosen, regions, task = work.chosen, work.regions, work.task
    start, end = task.span[0], task.span[1]
    _import_inputs(live, work, start, end)
    num_stores, waited = 0, 0
    for unit in range(start, end):
        add_item(items, START_FORWARD, unit, -1, 0, 0.0)
        position = unit - start
        while waited < num_stores and task.store[waited, 2] <= position:
            add_item(items, RELEASE, unit, waited, 0, 0.0)
            items.state[1] -= _release_store(live, work, waited)
            waited += 1
        region = regions.unit[unit, OUTER]
        if region >= 0:
            capture(live, work, region, unit)
            run_unit(items, live, work, unit, 0, KEEP_NOTHING, False, unit + 1, 0)
            if regions.region[region, OFFLOAD] and unit == regions.region[region, START]:
                num_stores = store_region(items, live, work, region, num_stores)
        else:
            num_stores = run_option(items, live, work, chosen[unit], unit, num_stores)
    items.ints[items.state[2], AFTER] -= _end_forward(live, work, start, end)
    for store in range(waited, num_stores):
        row = add_item(items, CARRY, task.store[store, 0], store, 0, 0.0)
        items.ints[row, BEFORE] = task.store[store, 2] - (end - start) + 1
        items.ints[row, PEAK] = _release_store(live, work, store)


@kernel
def end_pass(items: Items, live: Live, work: Work) -> None:
    """End a forward without a backward: results go when they are sent, all else at once."""
    chain, task = work.chain, work.task
    sent = 0
    for storage in range(chain.num_forward[0]):
        here = task.span[0] <= chain.cross[storage, MAKER] < task.span[1]
        if here and chain.cross[storage, LAST_READER] >= task.span[1]:
            sent += live.instance[storage, BYTES]
            live.instance[storage, HOLDERS] = 0
    items.ints[items.state[2], AFTER] -= drop_all(live)
    row = add_item(items, TAIL, task.span[0], -1, 0, 0.0)
    items.ints[row, BEFORE] = sent


@kernel
def _import_inputs(live: Live, work: Work, start: int, end: int) -> None:
    """What earlier stages made lies in receive buffers: it has a holder and no bytes."""
    chain = work.chain
    for unit in range(start, end):
        for place in range(chain.table[INPUTS, unit], chain.table[INPUTS, unit + 1]):
            storage = chain.values[place]
            if chain.cross[storage, MAKER] < start and live.instance[storage, HOLDERS] == 0:
                live.instance[storage, HOLDERS] = 1
                live.cross[storage, CURRENT] = storage


@kernel
def _release_store(live: Live, work: Work, store: int) -> int:
    """A copy to the host has been waited for: its sources lose a holder."""
    task = work.task
    freed = task.store_bytes[store, 0]
    place = live.head[store_list(work, store)]
    while place >= 0:
        freed += drop(live, live.link[place, 2])
        place = live.link[place, 0]
    return int(freed)


@kernel
def _end_forward(live: Live, work: Work, start: int, end: int) -> int:
    """The program lets go of what it would hold into the forward of later stages only."""
    chain = work.chain
    freed = 0
    for unit in range(end, len(chain.unit)):
        for place in range(chain.table[DROPPED, unit], chain.table[DROPPED, unit + 1]):
            storage = chain.values[place]
            if start <= chain.cross[storage, MAKER] < end:
                freed += drop_program(live, find(live, storage, 0))
    return freed
