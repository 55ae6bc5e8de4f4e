"""What an observation tells about budget, progress and what was decided; compiled."""

from __future__ import annotations

import math

from remora.envs.actions import PACES, Phase
from remora.envs.arrays import (
    BASE,
    BOUND,
    BUDGET,
    COMPUTE,
    CURSOR,
    FALLBACK,
    FIRST_ROW,
    HELD,
    LOAD,
    ON_THE_WAY,
    OPEN,
    PACE,
    PHASE,
    PLACE,
    ROW,
    SHAPE,
    STAGE,
    STATE_COLUMNS,
    STORE,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    FIRST_COUNT,
    FIRST_SHAPE,
    FIRST_STAGE,
    LINK_RATE,
    LOAD_RATE,
    MICRO_BATCHES,
    NUM_RANKS,
    NUM_SHAPES,
    RANGE_BYTES,
    REPLICAS,
    SCALE_BYTES,
    SCALE_S,
    SHAPE_KIND,
    STAGES,
    STORE_RATE,
    UNITS,
)
from remora.envs.jit import kernel
from remora.envs.pipeline_seconds import stage_share

__all__ = ["FEATURE_LIMIT", "tell"]

FEATURE_LIMIT = 10.0
"""Every feature is clipped to plus or minus this."""

_DONE = int(Phase.DONE)
_PIPELINE = STATE_COLUMNS.index("ranks")
_KINDS = STATE_COLUMNS.index("kind_0")
_PHASES = STATE_COLUMNS.index("phase_ranks")
_GIVEN = STATE_COLUMNS.index("given_budget")
_UNITS = int(Phase.UNITS)
_WINDOWS = tuple(window for window, _ in PACES)
_DISTANCES = tuple(distance for _, distance in PACES)


@kernel
def tell(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill the columns ``STATE_COLUMNS`` of an episode."""
    ints, reals, state = episodes.ints[e], episodes.reals[e], episodes.state[e]
    row, cursor = ints[ROW], ints[CURSOR]
    seconds, span = (
        tables.reals[ints[FIRST_ROW], SCALE_S],
        tables.reals[ints[FIRST_ROW], SCALE_BYTES],
    )
    limit = ints[BUDGET] - tables.placed[row, ints[PLACE], 0]
    state[0] = limit / span
    state[1] = (limit - ints[BASE] - tables.near[row, cursor, 0]) / span
    state[2] = ints[HELD] / span
    state[3] = ints[ON_THE_WAY] / span
    state[4] = tables.near[row, cursor, 0] / span
    state[5] = reals[COMPUTE] / seconds
    state[6] = reals[STORE] / seconds
    state[7] = reals[LOAD] / seconds
    state[8] = math.log(reals[BOUND] / seconds)
    state[9] = cursor / tables.ints[row, UNITS]
    state[10] = 0.0 if ints[OPEN] < 0 else (cursor - ints[OPEN]) / 8
    state[11] = math.log2(tables.ints[row, MICRO_BATCHES]) / 5
    state[12] = ints[PLACE] / 4
    state[13] = _WINDOWS[ints[PACE]] / 8
    state[14] = _DISTANCES[ints[PACE]] / 4
    if tables.ints[ints[FIRST_ROW], NUM_SHAPES] > 0:
        # Ranks share the model, so what a whole one takes says nothing.
        state[0] = (ints[BUDGET] - tables.reals[ints[FIRST_ROW], RANGE_BYTES]) / span
        state[1] = episodes.spare[ints[FALLBACK]] / span if ints[PHASE] < _DONE else 0.0
        state[4] = 0.0
    for phase in range(_DONE):
        state[_PHASES + phase] = 1.0 if ints[PHASE] == phase else 0.0
    _tell_pipeline(tables, episodes, e)
    _tell_given(tables, episodes, e)
    for column in range(len(state)):
        state[column] = max(-FEATURE_LIMIT, min(FEATURE_LIMIT, state[column]))


@kernel
def _tell_pipeline(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill the columns of the pipeline, as far as it is chosen; zeros on one device."""
    ints, pipes, state = episodes.ints[e], tables.pipelines, episodes.state[e]
    state[_PIPELINE:_PHASES] = 0.0
    if tables.ints[ints[FIRST_ROW], NUM_SHAPES] == 0 or ints[PHASE] < _UNITS:
        return
    columns = pipes.shape[ints[SHAPE]]
    left = columns[STAGES] - ints[STAGE]
    state[_PIPELINE] = math.log2(columns[NUM_RANKS]) / 5
    state[_PIPELINE + 1] = ints[STAGE] / columns[STAGES]
    state[_PIPELINE + 2] = left / 16
    state[_KINDS + columns[SHAPE_KIND]] = 1.0
    if ints[PHASE] == _UNITS:
        held = pipes.stage[columns[FIRST_STAGE] + ints[STAGE], FIRST_COUNT]
        state[_PIPELINE + 3] = math.log2(1.0 + held) / 4
        state[_PIPELINE + 4] = stage_share(tables, episodes, e, 0.0)


@kernel
def _tell_given(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill the columns that no action changes."""
    ints, state = episodes.ints[e], episodes.state[e]
    first = ints[FIRST_ROW]
    seconds, span = tables.reals[first, SCALE_S], tables.reals[first, SCALE_BYTES]
    limit = ints[BUDGET] - tables.placed[first, 0, 0]
    state[_GIVEN] = limit / span
    state[_GIVEN + 1] = (limit - tables.near[first, 0, 0]) / span
    # What the host link moves during one step, against what there is to move.
    state[_GIVEN + 2] = math.log10(1e-6 + tables.reals[first, STORE_RATE] * seconds / span)
    state[_GIVEN + 3] = math.log10(1e-6 + tables.reals[first, LOAD_RATE] * seconds / span)
    state[_GIVEN + 4] = 0.0
    state[_GIVEN + 5] = 0.0
    if tables.ints[first, NUM_SHAPES] > 0:
        columns = tables.pipelines.shape[tables.ints[first, FIRST_SHAPE]]
        state[_GIVEN] = (ints[BUDGET] - tables.reals[first, RANGE_BYTES]) / span
        state[_GIVEN + 1] = ints[BUDGET] / (tables.reals[first, RANGE_BYTES] + span)
        state[_GIVEN + 4] = math.log2(columns[NUM_RANKS] * columns[REPLICAS]) / 5
        state[_GIVEN + 5] = math.log10(1e-6 + tables.reals[first, LINK_RATE] * seconds / span)
