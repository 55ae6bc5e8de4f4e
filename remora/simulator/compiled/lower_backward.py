"""The backward task of a stage, whole or its first half."""

from __future__ import annotations

from remora.simulator.compiled.backward_parts import (
    death_peak,
    drop_all,
    drop_backward,
    drop_saved,
    has_own_parts,
    make_backward,
    next_to_run,
)
from remora.simulator.compiled.bring_back import prepare_backward, remake, waits_for_weights
from remora.simulator.compiled.columns import (
    AFTER,
    BACKWARD_S,
    BEFORE,
    END,
    FIRST_LEVELS,
    LATER_LEVELS,
    LATER_PEAK,
    MADE_BACKWARD,
    OWN_LEVELS,
)
from remora.simulator.compiled.items import (
    BACKWARD,
    FLUSH,
    LOAD,
    TAIL,
    Items,
    add_item,
)
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, drop_program, push
from remora.simulator.compiled.lower_halves import backward_input
from remora.simulator.compiled.option_rows import OFFLOADED
from remora.simulator.compiled.work import Work, compute, private, store_list

__all__ = ["lower_backward"]


@kernel
def lower_backward(items: Items, live: Live, work: Work, halves: bool) -> None:
    """Append the items of a backward, or of its first half."""
    task = work.task
    start, end = task.span[0], task.span[1]
    add_item(items, FLUSH, end - 1, -1, 0, 0.0)
    store = _count_stores(work) - 1
    for unit in range(end - 1, start - 1, -1):
        while store >= 0 and _trigger(work, store) == unit:
            _load(items, live, work, store)
            store -= 1
        if not (halves and waits_for_weights(work, unit)):
            prepare_backward(items, live, work, unit)
        if halves:
            backward_input(items, live, work, unit)
        else:
            _backward(items, live, work, unit)
    sent = _sent_bytes(live, work, start, end) if start > 0 else 0
    if not halves:
        items.ints[items.state[2], AFTER] -= drop_all(live)
    row = add_item(items, TAIL, start, -1, 0, 0.0)
    items.ints[row, BEFORE] = sent


@kernel
def _count_stores(work: Work) -> int:
    task = work.task
    count = 0
    while count < len(task.store_bytes) and task.store_bytes[count, 2] > 0:
        count += 1
    return count


@kernel
def _trigger(work: Work, store: int) -> int:
    """Unit with whose backward a copy back is issued."""
    regions, task = work.regions, work.task
    region = task.store[store, 1]
    end = regions.region[region, END] if region >= 0 else task.store[store, 0] + 1
    return int(min(end - 1 + task.span[3], task.span[1] - 1))


@kernel
def _load(items: Items, live: Live, work: Work, store: int) -> None:
    """Take memory and issue the copy back."""
    rows, chosen, task = work.rows, work.chosen, work.task
    unit, region = task.store[store, 0], task.store[store, 1]
    total, count = task.store_bytes[store, 1], task.store_bytes[store, 2]
    live.next[1] += 1
    items.state[1] += total
    if region >= 0:
        place = live.head[store_list(work, store)]
        while place >= 0:
            storage = live.link[place, 1]
            instance = private(live, work, storage)
            push(live, region, storage, instance)
            place = live.link[place, 0]
        seconds = count * task.link[0] + total / task.link[2]
        add_item(items, LOAD, unit, store, -total, seconds)
        return
    remake(live, work, chosen[unit], unit, OFFLOADED)
    add_item(items, LOAD, unit, store, -total, rows.seconds[chosen[unit], 2])


@kernel
def _backward(items: Items, live: Live, work: Work, unit: int) -> None:
    chain = work.chain
    first = death_peak(live, work, FIRST_LEVELS, unit)
    own = has_own_parts(work, unit, MADE_BACKWARD)
    later = death_peak(live, work, OWN_LEVELS if own else LATER_LEVELS, unit)
    change = -drop_saved(live, work, unit) - drop_backward(live, work, unit)
    change += make_backward(live, work, unit, MADE_BACKWARD)
    seconds, upcoming = chain.seconds[unit, BACKWARD_S], next_to_run(live, work, unit - 1)
    row = compute(items, work, BACKWARD, unit, seconds, first, change, upcoming, False)
    items.ints[row, LATER_PEAK] = later


@kernel
def _sent_bytes(live: Live, work: Work, start: int, end: int) -> int:
    """Gradients for earlier stages, which the program holds until they are sent."""
    chain = work.chain
    sent = 0
    for unit in range(start, end):
        for place in range(chain.table[MADE_BACKWARD, unit], chain.table[MADE_BACKWARD, unit + 1]):
            sent += drop_program(live, chain.values[place])
    return sent
