"""The micro-program of a stage: what one of its tasks does, the same for every micro-batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.columns import (
    BEFORE,
    CODE,
    HOST,
    NUM_ITEM_COLUMNS,
    SLOT,
    UNIT,
    UPCOMING,
)
from remora.simulator.compiled.jit import kernel

__all__ = [
    "BACKWARD",
    "CARRY",
    "COMPUTE",
    "FETCH",
    "FLUSH",
    "LOAD",
    "RELEASE",
    "START_FORWARD",
    "STORE",
    "TAIL",
    "WAIT_FETCH",
    "WAIT_LOAD",
    "Items",
    "add_item",
    "new_items",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COMPUTE = 0
"""A compute instruction; its the change before it, its peak and the change after it are figures."""
BACKWARD = 1
"""One that makes gradients of weights: one more figure is its peak if they are added to others."""
START_FORWARD = 2
"""A forward of a unit begins: copies that are due are waited for."""
STORE = 3
"""A copy to the host, ``slot``."""
RELEASE = 4
"""Wait for copy ``slot``."""
CARRY = 5
"""Copy ``slot`` goes on after the task: due in BEFORE forwards, it then frees PEAK bytes."""
LOAD = 6
"""A copy from the host, ``slot``."""
WAIT_LOAD = 7
"""Let the next compute instruction wait for copy ``slot``."""
FETCH = 8
"""Bring in the weights of ``unit``."""
WAIT_FETCH = 9
"""Let the next compute instruction wait for them."""
FLUSH = 10
"""Wait for all copies of this micro-batch and stage."""
TAIL = 11
"""The task is over: BEFORE bytes wait for a message to be sent."""


class Items(NamedTuple):
    """Rows, appended in order.

    Attributes:
        state: number of rows, memory change since the last compute item, row of that item.  # [3]
        ints: code, unit, unit after it, number of a host copy, pinned bytes taken or given back,
            and four figures in bytes.  # [rows][9]
        seconds: duration.  # [rows]
    """

    state: Ints
    ints: Ints
    seconds: Floats


def new_items(capacity: int) -> Items:
    """Empty rows."""
    return Items(
        np.zeros(3, dtype=np.int64),
        np.empty((capacity, NUM_ITEM_COLUMNS), dtype=np.int64),
        np.empty(capacity, dtype=np.float64),
    )


@kernel
def add_item(items: Items, code: int, unit: int, slot: int, host: int, seconds: float) -> int:
    """Append a row and return its number."""
    row = items.state[0]
    items.state[0] += 1
    items.ints[row, CODE] = code
    items.ints[row, UNIT] = unit
    items.ints[row, UPCOMING] = -1
    items.ints[row, SLOT] = slot
    items.ints[row, HOST] = host
    for column in range(BEFORE, NUM_ITEM_COLUMNS):
        items.ints[row, column] = 0
    items.seconds[row] = seconds
    return int(row)
