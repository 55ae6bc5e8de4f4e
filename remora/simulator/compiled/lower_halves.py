"""The two halves of a backward, for pipelines that run them apart."""

from __future__ import annotations

from remora.simulator.compiled.backward_parts import (
    drop_all,
    drop_backward,
    drop_saved,
    has_own_parts,
    make_backward,
    next_to_run,
)
from remora.simulator.compiled.bring_back import prepare_backward, waits_for_weights
from remora.simulator.compiled.columns import (
    AFTER,
    BYTES,
    CARRIED,
    CARRIED_BYTES,
    DROPPED_BACKWARD,
    HOLDERS,
    INPUT_LEVELS,
    INPUT_S,
    LATER_PEAK,
    MADE_INPUTS,
    MADE_WEIGHTS,
    MAKER,
    SUMMED,
    WEIGHT_FIRST,
    WEIGHT_LATER,
    WEIGHT_OWN,
    WEIGHT_S,
)
from remora.simulator.compiled.items import BACKWARD, COMPUTE, TAIL, Items, add_item
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, drop, drop_program, find, only_program, push
from remora.simulator.compiled.work import Work, carried_list, compute

__all__ = ["backward_input", "lower_weights"]


@kernel
def backward_input(items: Items, live: Live, work: Work, unit: int) -> None:
    """First half: everything saved stays, and what the second half reads."""
    chain = work.chain
    carried = carried_list(work, unit)
    for place in range(chain.table[CARRIED, unit], chain.table[CARRIED, unit + 1]):
        storage = chain.values[place]
        if live.instance[storage, HOLDERS] > 0:
            live.instance[storage, HOLDERS] += 1
            push(live, carried, storage, storage)
    segment = chain.table[INPUT_LEVELS, unit]
    peak, freed = max(0, chain.values[segment]), 0
    for place in range(
        chain.table[DROPPED_BACKWARD, unit], chain.table[DROPPED_BACKWARD, unit + 1]
    ):
        instance = find(live, chain.values[place], 0)
        if only_program(live, instance):
            freed += live.instance[instance, BYTES]
        segment += 1
        peak = max(peak, chain.values[segment] - freed)
    change = chain.unit[unit, CARRIED_BYTES] - drop_backward(live, work, unit)
    change += make_backward(live, work, unit, MADE_INPUTS)
    for place in range(chain.table[CARRIED, unit], chain.table[CARRIED, unit + 1]):
        storage = chain.values[place]
        if chain.cross[storage, MAKER] == unit:
            live.instance[storage, HOLDERS] += 1
            push(live, carried, storage, storage)
    seconds = chain.seconds[unit, INPUT_S]
    upcoming = next_to_run(live, work, unit - 1)
    compute(items, work, COMPUTE, unit, seconds, peak, change, upcoming, False)


@kernel
def lower_weights(items: Items, live: Live, work: Work) -> None:
    """Append the items of the second half of a backward."""
    chain, task = work.chain, work.task
    start, end = task.span[0], task.span[1]
    for unit in range(end - 1, start - 1, -1):
        if waits_for_weights(work, unit):
            prepare_backward(items, live, work, unit)
        change = -drop_saved(live, work, unit) - chain.unit[unit, CARRIED_BYTES]
        place = live.head[carried_list(work, unit)]
        while place >= 0:
            change -= drop(live, live.link[place, 2])
            place = live.link[place, 0]
        for place in range(chain.table[SUMMED, unit], chain.table[SUMMED, unit + 1]):
            change -= drop_program(live, find(live, chain.values[place], 0))
        change += make_backward(live, work, unit, MADE_WEIGHTS)
        seconds, peak = chain.seconds[unit, WEIGHT_S], chain.unit[unit, WEIGHT_FIRST]
        row = compute(items, work, BACKWARD, unit, seconds, peak, change, unit - 1, False)
        own = has_own_parts(work, unit, MADE_WEIGHTS)
        items.ints[row, LATER_PEAK] = chain.unit[unit, WEIGHT_OWN if own else WEIGHT_LATER]
    items.ints[items.state[2], AFTER] -= drop_all(live)
    add_item(items, TAIL, start, -1, 0, 0.0)
