"""What a whole backward and its halves have in common."""

from __future__ import annotations

from remora.simulator.compiled.columns import (
    ADDED_BY,
    BYTES,
    DEATHS,
    DROPPED_BACKWARD,
    HANDED_BYTES,
    HANDED_TO,
    HOLDERS,
    OUTER,
    PROGRAM,
    SAVED,
    SAVED_BYTES,
    SIZE,
    START,
)
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, drop, drop_program, find, make, only_program
from remora.simulator.compiled.regions import child_at
from remora.simulator.compiled.work import Work

__all__ = [
    "death_peak",
    "drop_all",
    "drop_backward",
    "drop_saved",
    "has_own_parts",
    "make_backward",
    "next_to_run",
]


@kernel
def death_peak(live: Live, work: Work, levels: int, unit: int) -> int:
    """Peak of a backward, less what it lets go of that nobody else holds."""
    chain = work.chain
    segment = chain.table[levels, unit]
    peak, freed = max(0, chain.values[segment]), 0
    first = chain.table[SAVED, unit]
    for place in range(chain.table[DEATHS, unit], chain.table[DEATHS, unit + 1]):
        code = chain.values[place]
        if code >= 0:
            instance = live.saved_at[first + code]
            if live.instance[instance, HOLDERS] == 1:
                freed += live.instance[instance, BYTES]
        else:
            instance = find(live, -1 - code, 0)
            if only_program(live, instance):
                freed += live.instance[instance, BYTES]
        segment += 1
        peak = max(peak, chain.values[segment] - freed)
    return int(peak)


@kernel
def drop_saved(live: Live, work: Work, unit: int) -> int:
    """What a unit saved has been used; returns the bytes that this frees."""
    chain = work.chain
    freed = chain.unit[unit, SAVED_BYTES]
    for place in range(chain.table[SAVED, unit], chain.table[SAVED, unit + 1]):
        freed += drop(live, live.saved_at[place])
    return int(freed)


@kernel
def drop_backward(live: Live, work: Work, unit: int) -> int:
    """The program lets go of gradients that a unit's backward used up."""
    chain = work.chain
    freed = 0
    for place in range(
        chain.table[DROPPED_BACKWARD, unit], chain.table[DROPPED_BACKWARD, unit + 1]
    ):
        freed += drop_program(live, find(live, chain.values[place], 0))
    return freed


@kernel
def make_backward(live: Live, work: Work, unit: int, made: int) -> int:
    """Gradients for earlier units, held by the program; returns their bytes."""
    chain, grown = work.chain, 0
    for place in range(chain.table[made, unit], chain.table[made, unit + 1]):
        storage = chain.values[place]
        if _is_own_part(work, storage):
            continue
        apart = chain.cross[storage, HANDED_TO] < work.task.span[0]
        size = chain.cross[storage, HANDED_BYTES if apart else SIZE]
        make(live, storage, 0, size)
        live.instance[storage, HOLDERS] = 1
        live.instance[storage, PROGRAM] = 1
        grown += size
    return int(grown)


@kernel
def _is_own_part(work: Work, storage: int) -> bool:
    """Whether it is a part of a weight's gradient that no unit of the stage adds to."""
    reader = work.chain.cross[storage, ADDED_BY]
    return bool(reader >= 0 and not work.task.span[0] <= reader < work.task.span[1])


@kernel
def has_own_parts(work: Work, unit: int, made: int) -> bool:
    """Whether a backward makes such a part."""
    chain, found = work.chain, False
    for place in range(chain.table[made, unit], chain.table[made, unit + 1]):
        found = found or _is_own_part(work, chain.values[place])
    return found


@kernel
def next_to_run(live: Live, work: Work, target: int) -> int:
    """The unit that runs first for the backward of ``target``: it, or where a rerun begins."""
    regions = work.regions
    if target < work.task.span[0]:
        return target
    region = regions.unit[target, OUTER]
    while region >= 0:
        if not live.filled[region]:
            return int(regions.region[region, START])
        region = child_at(regions, region, target)
    return target


@kernel
def drop_all(live: Live) -> int:
    """Empty the memory; returns its bytes."""
    freed = 0
    for instance in range(live.next[0]):
        if live.instance[instance, HOLDERS] > 0:
            freed += live.instance[instance, BYTES]
            live.instance[instance, HOLDERS] = 0
            live.instance[instance, PROGRAM] = 0
    return freed
