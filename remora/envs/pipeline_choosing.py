"""The settings of problems of several ranks: ranks, kind, micro-batches, state; compiled."""

from __future__ import annotations

import numpy as np

from remora.envs.actions import KINDS, NUM_ACTIONS, NUM_STATES, STATES, Phase
from remora.envs.arrays import (
    BOUND,
    BUDGET,
    FIRST_ROW,
    KIND,
    PHASE,
    PLACE,
    RANKS,
    ROW,
    SHAPE,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    AGAIN_ALL_BYTES,
    AGAIN_ALL_S,
    COUNT_PLACE,
    DEVICE_STEP_S,
    FIRST_SHAPE,
    FIRST_SLOT,
    FLOOR_S,
    GRADIENTS,
    HOST_MEMORY,
    KEPT_BYTES,
    KEPT_S,
    LOAD_RATE,
    MICRO_BATCHES,
    NUM_RANKS,
    NUM_SHAPES,
    OFFLOADS,
    RANKS_PLACE,
    REPLICAS,
    SCALE_S,
    SHAPE_KIND,
    SHAPE_ROW,
    STAGES,
    STORE_RATE,
    UNITS,
    WEIGHTS,
)
from remora.envs.jit import kernel
from remora.envs.least_budgets import least_budget
from remora.envs.likely import likely_s
from remora.envs.offering import offer
from remora.envs.price_levels import COPY_WEIGHT
from remora.envs.stage_bytes import host_bytes
from remora.schedule.schedule import Placement

__all__ = [
    "choose",
    "fill_least_pipeline_bound",
    "look_at_settings",
    "look_at_states",
    "skip_settings",
]

_RANKS, _KINDS = int(Phase.RANKS), int(Phase.KIND)
_COUNTS, _PLACES, _PACES = int(Phase.MICRO_BATCHES), int(Phase.STATE), int(Phase.PACE)
_UNITS = int(Phase.UNITS)
_NUM_KINDS = len(KINDS)
_ON_HOST = tuple(int(state.optimizer is Placement.HOST) for state in STATES)
_ZERO = tuple(state.zero_stage for state in STATES)


@kernel
def _choice(tables: Tables, shape: int, phase: int) -> int:
    """The action of a phase that leads to a shape."""
    columns = tables.pipelines.shape[shape]
    if phase == _RANKS:
        return int(columns[RANKS_PLACE])
    return int(columns[SHAPE_KIND] if phase == _KINDS else columns[COUNT_PLACE])


@kernel
def _is_left(tables: Tables, episodes: Episodes, e: int, shape: int) -> bool:
    """Whether a shape has the ranks and the kind that were chosen so far."""
    ints = episodes.ints[e]
    columns = tables.pipelines.shape[shape]
    if ints[PHASE] > _RANKS and columns[RANKS_PLACE] != ints[RANKS]:
        return False
    return bool(ints[PHASE] <= _KINDS or columns[SHAPE_KIND] == ints[KIND])


@kernel
def _room_in(tables: Tables, episodes: Episodes, e: int, shape: int, state: int) -> int:
    """Bytes that a pipeline leaves beside its plan of least memory; negative if it does not fit."""
    ints, columns = episodes.ints[e], tables.pipelines.shape[shape]
    if columns[FIRST_SLOT + state] < 0:
        return -1
    row = columns[SHAPE_ROW]
    pinned = columns[STAGES] + host_bytes(tables, shape, state, 0, tables.ints[row, UNITS])
    if pinned > tables.ints[row, HOST_MEMORY]:
        return -1
    return int(ints[BUDGET] - least_budget(tables, shape, state, 0, 0))


@kernel
def look_at_settings(tables: Tables, episodes: Episodes, e: int) -> None:
    """Offer ranks, kinds or numbers of micro-batches, each with the best that follows from it."""
    ints, pipes = episodes.ints[e], tables.pipelines
    row, phase = ints[FIRST_ROW], ints[PHASE]
    first = tables.ints[row, FIRST_SHAPE]
    for shape in range(first, first + tables.ints[row, NUM_SHAPES]):
        if not _is_left(tables, episodes, e, shape):
            continue
        room = -1
        for state in range(NUM_STATES):
            room = max(room, _room_in(tables, episodes, e, shape, state))
        if room < 0:
            continue
        action = _choice(tables, shape, phase)
        known = pipes.shape_s[shape]
        more_s = known[KEPT_S] - tables.reals[row, SCALE_S]
        outlook_s = likely_s(
            known[KEPT_S],
            known[KEPT_BYTES],
            known[AGAIN_ALL_S],
            known[AGAIN_ALL_BYTES],
            float(ints[BUDGET]),
        )
        if episodes.mask[e, action]:
            room = max(room, episodes.spare[action])
            more_s = min(more_s, episodes.choices[e, action, 2] * tables.reals[row, SCALE_S] / 10)
            outlook_s = min(outlook_s, episodes.choices[e, action, 5])
        value = _value(tables, shape, phase)
        offer(tables, episodes, e, action, room, more_s, 0.0, value, outlook_s)


@kernel
def _value(tables: Tables, shape: int, phase: int) -> float:
    """What is chosen, as a number."""
    columns = tables.pipelines.shape[shape]
    if phase == _RANKS:
        return float(np.log2(columns[NUM_RANKS]) / 5)
    if phase == _KINDS:
        return float(columns[SHAPE_KIND] / _NUM_KINDS)
    return float(np.log2(tables.ints[columns[SHAPE_ROW], MICRO_BATCHES]) / 5)


@kernel
def look_at_states(tables: Tables, episodes: Episodes, e: int) -> None:
    """Offer the places of the state, with the seconds that each adds to an average rank's step."""
    shape = episodes.ints[e, SHAPE]
    for state in range(NUM_STATES):
        room = _room_in(tables, episodes, e, shape, state)
        more_s = _step_s(tables, shape, state) - _step_s(tables, shape, 0)
        copies_s = _copies_s(tables, shape, state)
        outlook_s = more_s + COPY_WEIGHT * copies_s
        value = state / NUM_STATES
        offer(tables, episodes, e, state, room, more_s, copies_s, value, outlook_s)


@kernel
def _parts(tables: Tables, shape: int, state: int) -> int:
    """Among how many the optimizer's step is shared."""
    columns = tables.pipelines.shape[shape]
    return int(columns[NUM_RANKS] * (columns[REPLICAS] if _ZERO[state] >= 1 else 1))


@kernel
def _step_s(tables: Tables, shape: int, state: int) -> float:
    row = tables.pipelines.shape[shape, SHAPE_ROW]
    whole_s = tables.reals[row, DEVICE_STEP_S + _ON_HOST[state]]
    return float(whole_s / _parts(tables, shape, state))


@kernel
def _copies_s(tables: Tables, shape: int, state: int) -> float:
    """Seconds of gradients to the host and weights back."""
    if not _ON_HOST[state]:
        return 0.0
    row = tables.pipelines.shape[shape, SHAPE_ROW]
    whole = tables.span[row, 0, tables.ints[row, UNITS]]
    there_s = whole[GRADIENTS] / tables.reals[row, STORE_RATE]
    back_s = whole[WEIGHTS] / tables.reals[row, LOAD_RATE]
    return float((there_s + back_s) / _parts(tables, shape, state))


@kernel
def choose(tables: Tables, episodes: Episodes, e: int, action: int) -> None:
    """Take a setting."""
    ints = episodes.ints[e]
    phase = ints[PHASE]
    if phase == _RANKS:
        ints[RANKS] = action
    elif phase == _KINDS:
        ints[KIND] = action
    elif phase == _PLACES:
        ints[PLACE] = action
    else:
        first = tables.ints[ints[FIRST_ROW], FIRST_SHAPE]
        for shape in range(first, first + tables.ints[ints[FIRST_ROW], NUM_SHAPES]):
            columns = tables.pipelines.shape[shape]
            if columns[COUNT_PLACE] == action and _is_left(tables, episodes, e, shape):
                ints[SHAPE], ints[ROW] = shape, columns[SHAPE_ROW]
    ints[PHASE] = phase + 1


@kernel
def skip_settings(tables: Tables, episodes: Episodes, e: int) -> None:
    """Go on to the first setting from here on with more than one choice."""
    ints = episodes.ints[e]
    first = tables.ints[ints[FIRST_ROW], FIRST_SHAPE]
    while ints[PHASE] < _PLACES:
        low, high = NUM_ACTIONS, -1
        for shape in range(first, first + tables.ints[ints[FIRST_ROW], NUM_SHAPES]):
            if _is_left(tables, episodes, e, shape):
                action = _choice(tables, shape, ints[PHASE])
                low, high = min(low, action), max(high, action)
        if low < high:
            return
        choose(tables, episodes, e, low)
    if ints[PHASE] == _PLACES and _num_states(tables, ints[SHAPE]) == 1:
        ints[PHASE] = _PACES
    if ints[PHASE] == _PACES and tables.ints[ints[ROW], OFFLOADS] == 0:
        ints[PHASE] = _UNITS


@kernel
def _num_states(tables: Tables, shape: int) -> int:
    allowed = 0
    for state in range(NUM_STATES):
        allowed += tables.pipelines.shape[shape, FIRST_SLOT + state] >= 0
    return allowed


@kernel
def fill_least_pipeline_bound(tables: Tables, episodes: Episodes, e: int) -> None:
    """Before the pipeline is chosen, the least bound of all that are possible."""
    row, least = episodes.ints[e, FIRST_ROW], np.inf
    first = tables.ints[row, FIRST_SHAPE]
    for shape in range(first, first + tables.ints[row, NUM_SHAPES]):
        if _is_left(tables, episodes, e, shape):
            least = min(least, tables.pipelines.shape_s[shape, FLOOR_S])
    episodes.reals[e, BOUND] = max(episodes.reals[e, BOUND], least)
