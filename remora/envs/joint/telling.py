"""What an observation tells about budget, progress and what was decided; compiled."""

from __future__ import annotations

import math

from remora.envs.joint.actions import PACES, Phase
from remora.envs.joint.arrays import (
    BASE,
    BOUND,
    BUDGET,
    COMPUTE,
    CURSOR,
    FIRST_ROW,
    HELD,
    LOAD,
    ON_THE_WAY,
    OPEN,
    PACE,
    PHASE,
    PLACE,
    ROW,
    STATE_COLUMNS,
    STORE,
    Episodes,
    Tables,
)
from remora.envs.joint.jit import kernel

__all__ = ["FEATURE_LIMIT", "tell"]

FEATURE_LIMIT = 10.0
"""Every feature is clipped to plus or minus this."""

_DONE = int(Phase.DONE)
_GIVEN = STATE_COLUMNS.index("given_budget")
_WINDOWS = tuple(window for window, _ in PACES)
_DISTANCES = tuple(distance for _, distance in PACES)


@kernel
def tell(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill the columns ``STATE_COLUMNS`` of an episode."""
    ints, reals, state = episodes.ints[e], episodes.reals[e], episodes.state[e]
    row, cursor = ints[ROW], ints[CURSOR]
    seconds, span = tables.scale[ints[FIRST_ROW], 0], tables.scale[ints[FIRST_ROW], 1]
    limit = ints[BUDGET] - tables.placed[row, ints[PLACE], 0]
    state[0] = limit / span
    state[1] = (limit - ints[BASE] - tables.rest[row, cursor]) / span
    state[2] = ints[HELD] / span
    state[3] = ints[ON_THE_WAY] / span
    state[4] = tables.rest[row, cursor] / span
    state[5] = reals[COMPUTE] / seconds
    state[6] = reals[STORE] / seconds
    state[7] = reals[LOAD] / seconds
    state[8] = math.log(reals[BOUND] / seconds)
    state[9] = cursor / tables.units[row]
    state[10] = 0.0 if ints[OPEN] < 0 else (cursor - ints[OPEN]) / 8
    state[11] = math.log2(tables.sizes[row, 0]) / 5
    state[12] = ints[PLACE] / 4
    state[13] = _WINDOWS[ints[PACE]] / 8
    state[14] = _DISTANCES[ints[PACE]] / 4
    for phase in range(_DONE):
        state[15 + phase] = 1.0 if ints[PHASE] == phase else 0.0
    _tell_given(tables, episodes, e)
    for column in range(len(state)):
        state[column] = max(-FEATURE_LIMIT, min(FEATURE_LIMIT, state[column]))


@kernel
def _tell_given(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill the columns that no action changes."""
    ints, state = episodes.ints[e], episodes.state[e]
    first = ints[FIRST_ROW]
    seconds, span = tables.scale[first, 0], tables.scale[first, 1]
    limit = ints[BUDGET] - tables.placed[first, 0, 0]
    state[_GIVEN] = limit / span
    state[_GIVEN + 1] = (limit - tables.rest[first, 0]) / span
    # What the host link moves during one step, against what there is to move.
    state[_GIVEN + 2] = math.log10(1e-6 + tables.copies[first, 1] * seconds / span)
    state[_GIVEN + 3] = math.log10(1e-6 + tables.copies[first, 2] * seconds / span)
