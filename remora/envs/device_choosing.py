"""The settings of problems of one device: micro-batches and state; compiled."""

from __future__ import annotations

import numpy as np

from remora.envs.actions import NUM_STATES, Phase
from remora.envs.arrays import BOUND, BUDGET, FIRST_ROW, PHASE, PLACE, ROW, Episodes, Tables
from remora.envs.columns import (
    HOST_MEMORY,
    MICRO_BATCHES,
    OFFLOADS,
    PLACES,
    ROWS,
    STATE_STEP_S,
    WORK_S,
)
from remora.envs.jit import kernel
from remora.envs.offering import offer
from remora.envs.seconds import fill_bound

__all__ = [
    "fill_least_bound",
    "look_at_counts",
    "look_at_places",
    "room_with",
    "skip_device_settings",
]

_COUNTS, _PLACES, _PACES = int(Phase.MICRO_BATCHES), int(Phase.STATE), int(Phase.PACE)
_UNITS = int(Phase.UNITS)


@kernel
def room_with(tables: Tables, episodes: Episodes, e: int, row: int, place: int) -> int:
    """Bytes that a place of the state leaves beside the best completion of nothing; may be < 0."""
    placed = tables.placed[row, place]
    if placed[3] == 0:
        return -1
    if placed[1] > tables.ints[row, HOST_MEMORY] or placed[2] > episodes.ints[e, BUDGET]:
        return -1
    return int(episodes.ints[e, BUDGET] - tables.placed[row, place, 0] - tables.near[row, 0, 0])


@kernel
def look_at_counts(tables: Tables, episodes: Episodes, e: int) -> None:
    """Offer the numbers of micro-batches."""
    first = episodes.ints[e, FIRST_ROW]
    for action in range(tables.ints[first, ROWS]):
        row, best = first + action, -1
        for place in range(NUM_STATES):
            best = max(best, room_with(tables, episodes, e, row, place))
        more_s = tables.reals[row, WORK_S] - tables.reals[first, WORK_S]
        value = np.log2(tables.ints[row, MICRO_BATCHES]) / 5
        offer(tables, episodes, e, action, best, more_s, 0.0, value, more_s)


@kernel
def look_at_places(tables: Tables, episodes: Episodes, e: int) -> None:
    """Offer the places of the state."""
    row = episodes.ints[e, ROW]
    for place in range(NUM_STATES):
        headroom = room_with(tables, episodes, e, row, place)
        more_s = tables.reals[row, STATE_STEP_S + place] - tables.reals[row, STATE_STEP_S]
        value = place / NUM_STATES
        offer(tables, episodes, e, place, headroom, more_s, 0.0, value, more_s)


@kernel
def skip_device_settings(tables: Tables, episodes: Episodes, e: int) -> None:
    """Go on to the first setting from here on with more than one choice."""
    ints = episodes.ints[e]
    row = ints[ROW]
    ints[PHASE] = max(ints[PHASE], _COUNTS)
    if ints[PHASE] == _COUNTS and tables.ints[row, ROWS] == 1:
        ints[PHASE] = _PLACES
    if ints[PHASE] == _PLACES and tables.ints[row, PLACES] == 1:
        ints[PHASE] = _PACES
    if ints[PHASE] == _PACES and tables.ints[row, OFFLOADS] == 0:
        ints[PHASE] = _UNITS


@kernel
def fill_least_bound(tables: Tables, episodes: Episodes, e: int) -> None:
    """Before micro-batches and state are decided, the least bound of all that are possible."""
    ints, reals = episodes.ints[e], episodes.reals[e]
    first, last = ints[ROW], ints[ROW] + 1
    if ints[PHASE] == _COUNTS:
        last = first + tables.ints[first, ROWS]
    before, place_before = ints[ROW], ints[PLACE]
    least = np.inf
    for row in range(first, last):
        for place in range(NUM_STATES):
            if tables.placed[row, place, 3] == 0:
                continue
            ints[ROW], ints[PLACE] = row, place
            fill_bound(tables, episodes, e)
            least = min(least, reals[BOUND])
    ints[ROW], ints[PLACE] = before, place_before
    reals[BOUND] = least
