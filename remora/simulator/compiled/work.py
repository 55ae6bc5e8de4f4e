"""What every step of lowering a stage works on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.chain_arrays import ChainArrays
from remora.simulator.compiled.columns import (
    AFTER,
    BEFORE,
    BYTES,
    GENERATION,
    HOLDERS,
    LATER_PEAK,
    PEAK,
    PROGRAM,
    SIZE,
    UPCOMING,
)
from remora.simulator.compiled.items import FETCH, WAIT_FETCH, Items, add_item
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live
from remora.simulator.compiled.option_rows import RowArrays
from remora.simulator.compiled.regions import RegionArrays

__all__ = [
    "KEEP_ALL",
    "KEEP_NOTHING",
    "Fetches",
    "StageTask",
    "Work",
    "carried_list",
    "compute",
    "listed",
    "private",
    "reads_list",
    "store_list",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

KEEP_ALL, KEEP_NOTHING = 0, 1
"""What a forward in a region keeps."""


class Fetches(NamedTuple):
    """Weights that are brought in for every use, and caches with them.

    Attributes:
        size: bytes of every unit; 0 if they are there all the time.  # [n]
        seconds: of bringing them in.  # [n]
        cache: bytes among them of a cache, which stay until they are written back.  # [n]
        store_s: seconds of that.  # [n]
        ahead: units beyond the one that follows that are asked for too.  # [1]
    """

    size: Ints
    seconds: Floats
    cache: Ints
    store_s: Floats
    ahead: Ints


class StageTask(NamedTuple):
    """What a stage is lowered from.

    Attributes:
        span: first unit, end, window, distance.  # [4]
        link: latency, bytes per second to the host and back.  # [3]
        store: per host copy: unit or start of the region, region or -1, due.  # [copies][3]
        store_bytes: bytes on the device that wait for it, bytes moved, number of storages.
            # [copies][3]
        store_of: host copy of every region, -1 if none.  # [regions]
        present: 1 while the weights of a unit are there.  # [n]
    """

    span: Ints
    link: Floats
    store: Ints
    store_bytes: Ints
    store_of: Ints
    present: Ints


class Work(NamedTuple):
    """A plan, and the stage of it that is being lowered.

    Attributes:
        chain: the units.
        rows: the options.
        chosen: row of every unit's option.  # [n]
        regions: of the whole plan.
        fetches: weights that are brought in.
        task: the stage.
    """

    chain: ChainArrays
    rows: RowArrays
    chosen: Ints
    regions: RegionArrays
    fetches: Fetches
    task: StageTask


# Lists of (storage, instance) in ``Live``: inputs of every region, then inputs of every unit's
# partial rerun, what the second half of its backward reads, and sources of every host copy.


@kernel
def reads_list(work: Work, unit: int) -> int:
    """Inputs of a unit's partial rerun."""
    regions = work.regions
    return len(regions.region) + unit


@kernel
def carried_list(work: Work, unit: int) -> int:
    """What the second half of a unit's backward reads."""
    regions = work.regions
    return len(regions.region) + len(regions.unit) + unit


@kernel
def store_list(work: Work, store: int) -> int:
    """Sources of a host copy."""
    regions = work.regions
    return len(regions.region) + 2 * len(regions.unit) + store


@kernel
def listed(live: Live, lst: int, storage: int) -> bool:
    """Whether a storage is on a list."""
    place = live.head[lst]
    while place >= 0:
        if live.link[place, 1] == storage:
            return True
        place = live.link[place, 0]
    return False


@kernel
def compute(
    items: Items,
    work: Work,
    code: int,
    unit: int,
    seconds: float,
    peak: int,
    change: int,
    upcoming: int,
    stays: bool,
) -> int:
    """Append a compute item, with the weights it needs before it."""
    fetches, task = work.fetches, work.task
    following = upcoming if task.span[0] <= upcoming < task.span[1] else -1
    for wanted in (unit, following):
        _ask(items, work, wanted)
    for wanted in range(unit + 2, min(unit + 2 + fetches.ahead[0], task.span[1])):
        _ask(items, work, wanted)
    if fetches.size[unit] > 0:
        add_item(items, WAIT_FETCH, unit, -1, 0, 0.0)
        if not stays:
            task.present[unit] = 0
            change -= fetches.size[unit] - fetches.cache[unit]
    row = add_item(items, code, unit, -1, 0, seconds)
    items.ints[row, UPCOMING] = following
    items.ints[row, BEFORE] = items.state[1]
    items.ints[row, PEAK] = peak
    items.ints[row, AFTER] = change
    items.ints[row, LATER_PEAK] = peak
    items.state[1] = 0
    items.state[2] = row
    return row


@kernel
def _ask(items: Items, work: Work, wanted: int) -> None:
    """Ask for the weights of a unit, if there is one and they are not there."""
    fetches, task = work.fetches, work.task
    if wanted >= 0 and fetches.size[wanted] > 0 and task.present[wanted] == 0:
        add_item(items, FETCH, wanted, -1, 0, fetches.seconds[wanted])
        items.state[1] += fetches.size[wanted]
        task.present[wanted] = 1


@kernel
def private(live: Live, work: Work, storage: int) -> int:
    """An instance of its own with one holder."""
    chain = work.chain
    instance = live.next[0]
    live.next[0] += 1
    live.instance[instance, HOLDERS] = 1
    live.instance[instance, BYTES] = chain.cross[storage, SIZE]
    live.instance[instance, PROGRAM] = 0
    live.instance[instance, GENERATION] = live.next[1]
    return int(instance)
