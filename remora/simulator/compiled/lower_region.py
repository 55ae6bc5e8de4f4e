"""Recompute regions: taking hold of inputs, running again."""

from __future__ import annotations

from remora.simulator.compiled.backward_parts import next_to_run
from remora.simulator.compiled.columns import (
    CURRENT,
    END,
    FIRST_READER,
    HOLDERS,
    INPUTS,
    LAST_READER,
    MAKER,
    SIZE,
    START,
)
from remora.simulator.compiled.items import STORE, WAIT_LOAD, Items, add_item
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, drop, drop_program, push
from remora.simulator.compiled.lower_unit import run_unit
from remora.simulator.compiled.regions import child_at
from remora.simulator.compiled.work import KEEP_ALL, KEEP_NOTHING, Work, listed, store_list

__all__ = ["capture", "materialise", "store_region"]


@kernel
def capture(live: Live, work: Work, region: int, unit: int) -> None:
    """Let a region hold what a unit reads from before the region."""
    chain, regions, task = work.chain, work.regions, work.task
    for place in range(chain.table[INPUTS, unit], chain.table[INPUTS, unit + 1]):
        storage = chain.values[place]
        if chain.cross[storage, MAKER] >= regions.region[region, START] or listed(
            live, region, storage
        ):
            continue
        store = task.store_of[region]
        if store >= 0 and listed(live, store_list(work, store), storage):
            continue
        live.instance[live.cross[storage, CURRENT], HOLDERS] += 1
        push(live, region, storage, live.cross[storage, CURRENT])


@kernel
def store_region(items: Items, live: Live, work: Work, region: int, num_stores: int) -> int:
    """Send the inputs that only this region reads to the host."""
    chain, regions, task = work.chain, work.regions, work.task
    start, end = regions.region[region, START], regions.region[region, END]
    place = live.head[region]
    live.head[region] = -1
    sources = store_list(work, num_stores)
    total, count = 0, 0
    while place >= 0:
        storage, following = live.link[place, 1], live.link[place, 0]
        inside = (
            chain.cross[storage, FIRST_READER] >= start and chain.cross[storage, LAST_READER] < end
        )
        target = sources if inside else region
        live.link[place, 0] = live.head[target]
        live.head[target] = place
        if inside:
            total += chain.cross[storage, SIZE]
            count += 1
        place = following
    if count == 0:
        return num_stores
    task.store[num_stores, 0] = start
    task.store[num_stores, 1] = region
    task.store[num_stores, 2] = start - task.span[0] + task.span[2]
    task.store_bytes[num_stores, 0] = 0
    task.store_bytes[num_stores, 1] = total
    task.store_bytes[num_stores, 2] = count
    task.store_of[region] = num_stores
    seconds = 0.0 + (count * task.link[0] + total / task.link[1])
    add_item(items, STORE, start, num_stores, total, seconds)
    return num_stores + 1


@kernel
def materialise(items: Items, live: Live, work: Work, region: int, unit: int) -> None:
    """Run regions again, outermost first, until the saved tensors of ``unit`` exist."""
    regions, task = work.regions, work.task
    while region >= 0:
        if not live.filled[region]:
            if task.store_of[region] >= 0:
                add_item(items, WAIT_LOAD, unit, task.store_of[region], 0, 0.0)
            _rerun(items, live, work, region, unit)
        region = child_at(regions, region, unit)


@kernel
def _rerun(items: Items, live: Live, work: Work, region: int, target: int) -> None:
    regions = work.regions
    live.filled[region] = 1
    live.next[1] += 1
    generation, first = live.next[1], live.next[0]
    place = live.head[region]
    while place >= 0:
        live.cross[live.link[place, 1], CURRENT] = live.link[place, 2]
        place = live.link[place, 0]
    last = child_at(regions, region, regions.region[region, END] - 1)
    end = regions.region[region, END] if last < 0 else regions.region[last, START]
    for unit in range(regions.region[region, START], end):
        following = unit + 1 if unit + 1 < end else next_to_run(live, work, target)
        child = child_at(regions, region, unit)
        if child >= 0:
            capture(live, work, child, unit)
        stops = unit + 1 == regions.region[region, END]
        keeping = KEEP_ALL if child < 0 else KEEP_NOTHING
        run_unit(
            items,
            live,
            work,
            unit,
            generation,
            keeping,
            stops,
            following,
            regions.region[region, END],
        )
    if last >= 0:
        for unit in range(regions.region[last, START], regions.region[last, END]):
            capture(live, work, last, unit)
    freed = 0
    for instance in range(first, live.next[0]):
        freed += drop_program(live, instance)
    place = live.head[region]
    while place >= 0:
        freed += drop(live, live.link[place, 2])
        place = live.link[place, 0]
    live.head[region] = -1
    items.state[1] -= freed
