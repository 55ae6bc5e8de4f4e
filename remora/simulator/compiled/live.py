"""Which crossing storages are in memory while a stage is lowered: the compiled holders.

An *instance* is one materialisation of a storage: number x is the one of the forward itself,
later numbers are made when something runs again or comes back from the host. Its holders are only
counted; whether the program is one of them is noted apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.columns import (
    BYTES,
    CURRENT,
    GENERATION,
    HOLDERS,
    LATEST,
    PROGRAM,
)
from remora.simulator.compiled.jit import kernel

__all__ = [
    "Live",
    "copy_live",
    "drop",
    "drop_program",
    "find",
    "make",
    "new_live",
    "only_program",
    "push",
    "reset",
]

Ints = NDArray[np.int64]


class Live(NamedTuple):
    """State of the walk through one stage.

    Attributes:
        instance: holders, bytes, whether the program is one of the holders, and the number of the
            run that made it (0 for the forward).  # [instances][4]
        cross: instance that a reader would get, and the one made last by running again.  # [x][2]
        saved_at: instance behind every crossing saved storage of every unit.  # [all saved]
        next: next free instance, generation, next free link.  # [3]
        head: first link of every list, -1 if empty.  # [lists]
        link: next link, storage, instance.  # [links][3]
        filled: 1 for every region that has run again.  # [regions]
    """

    instance: Ints
    cross: Ints
    saved_at: Ints
    next: Ints
    head: Ints
    link: Ints
    filled: Ints


def new_live(crossing: int, saved: int, lists: int, regions: int, spare: int) -> Live:
    """Nothing in memory.

    Args:
        crossing: crossing storages.
        saved: crossing saved storages of all units.
        lists: lists of (storage, instance).
        regions: recompute regions.
        spare: instances and links to have room for.
    """
    state = np.zeros(3, dtype=np.int64)
    state[0] = crossing
    return Live(
        np.zeros((crossing + spare, 4), dtype=np.int64),
        np.full((crossing, 2), -1, dtype=np.int64),
        np.full(saved, -1, dtype=np.int64),
        state,
        np.full(lists, -1, dtype=np.int64),
        np.zeros((spare, 3), dtype=np.int64),
        np.zeros(max(regions, 1), dtype=np.int64),
    )


@kernel
def reset(live: Live) -> None:
    """Empty the memory again."""
    for instance in range(live.next[0]):
        for column in range(4):
            live.instance[instance, column] = 0
    for storage in range(len(live.cross)):
        live.cross[storage, CURRENT] = -1
        live.cross[storage, LATEST] = -1
    for lst in range(len(live.head)):
        live.head[lst] = -1
    for region in range(len(live.filled)):
        live.filled[region] = 0
    live.next[0] = len(live.cross)
    live.next[1] = 0
    live.next[2] = 0


@kernel
def copy_live(live: Live, apart: Live) -> None:
    """Make ``apart`` the same state, to be changed apart."""
    for instance in range(live.next[0]):
        for column in range(4):
            apart.instance[instance, column] = live.instance[instance, column]
    for storage in range(len(live.cross)):
        apart.cross[storage, CURRENT] = live.cross[storage, CURRENT]
        apart.cross[storage, LATEST] = live.cross[storage, LATEST]
    for place in range(len(live.saved_at)):
        apart.saved_at[place] = live.saved_at[place]
    for lst in range(len(live.head)):
        apart.head[lst] = live.head[lst]
    for place in range(live.next[2]):
        for column in range(3):
            apart.link[place, column] = live.link[place, column]
    for region in range(len(live.filled)):
        apart.filled[region] = live.filled[region]
    for entry in range(3):
        apart.next[entry] = live.next[entry]


@kernel
def make(live: Live, storage: int, generation: int, size: int) -> int:
    """An instance without holders."""
    instance = storage
    if generation > 0:
        instance = live.next[0]
        live.next[0] += 1
        live.cross[storage, LATEST] = instance
    live.instance[instance, HOLDERS] = 0
    live.instance[instance, BYTES] = size
    live.instance[instance, PROGRAM] = 0
    live.instance[instance, GENERATION] = generation
    return int(instance)


@kernel
def drop(live: Live, instance: int) -> int:
    """Take one holder away; returns the bytes that this frees."""
    live.instance[instance, HOLDERS] -= 1
    return int(live.instance[instance, BYTES]) if live.instance[instance, HOLDERS] == 0 else 0


@kernel
def find(live: Live, storage: int, generation: int) -> int:
    """The instance of a storage that a run made; -1 if there is none."""
    instance = storage if generation == 0 else live.cross[storage, LATEST]
    if instance < 0 or live.instance[instance, GENERATION] != generation:
        return -1
    return int(instance) if live.instance[instance, HOLDERS] > 0 else -1


@kernel
def only_program(live: Live, instance: int) -> bool:
    """Whether the program alone holds an instance."""
    if instance < 0:
        return False
    return bool(live.instance[instance, PROGRAM] == 1 and live.instance[instance, HOLDERS] == 1)


@kernel
def drop_program(live: Live, instance: int) -> int:
    """Take the program's hold away, if it has one; returns the bytes that this frees."""
    if instance < 0 or live.instance[instance, PROGRAM] == 0:
        return 0
    live.instance[instance, PROGRAM] = 0
    return drop(live, instance)


@kernel
def push(live: Live, lst: int, storage: int, instance: int) -> None:
    """Put a storage and its instance on a list."""
    place = live.next[2]
    live.next[2] += 1
    live.link[place, 0] = live.head[lst]
    live.link[place, 1] = storage
    live.link[place, 2] = instance
    live.head[lst] = place
