"""What a decision changes in an episode; compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import (
    FIRST_OPTION,
    NUM_ACTIONS,
    NUM_DECISIONS,
    Phase,
    UnitDecision,
)
from remora.envs.arrays import (
    BASE,
    BUDGET,
    COMPUTE,
    CURSOR,
    FALLBACK,
    FIRST_ROW,
    HELD,
    HELD_BACK,
    LASTING,
    LOAD,
    ON_HOST,
    ON_THE_WAY,
    OPEN,
    PACE,
    PHASE,
    PLACE,
    ROW,
    SHAPE,
    STORE,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    LOAD_RATE,
    MICRO_BATCHES,
    MOVED,
    NUM_SHAPES,
    STORE_RATE,
    UNITS,
)
from remora.envs.device_choosing import fill_least_bound, skip_device_settings
from remora.envs.holding import (
    begin_trial,
    border_bytes,
    group_start,
    hold_inputs,
    hold_option,
    offloaded_inputs,
    there_until,
)
from remora.envs.jit import kernel
from remora.envs.outlook import fill_rest
from remora.envs.pipeline_choosing import (
    choose,
    fill_least_pipeline_bound,
    skip_settings,
)
from remora.envs.pipeline_seconds import fill_pipeline_bound
from remora.envs.seconds import fill_bound, group_s
from remora.envs.stage_acting import end_stage, note_group, note_option, note_unit

__all__ = ["act_all", "begin"]

Ints = NDArray[np.int64]

_COUNTS, _PLACES, _PACES = int(Phase.MICRO_BATCHES), int(Phase.STATE), int(Phase.PACE)
_UNITS, _DONE = int(Phase.UNITS), int(Phase.DONE)
_OPENS, _NESTED = int(UnitDecision.OPEN), int(UnitDecision.CLOSE_NESTED)
_OFFLOADED = int(UnitDecision.CLOSE_OFFLOADED)


@kernel
def begin(tables: Tables, episodes: Episodes, e: int, row: int, budget: int) -> None:
    """Start an episode on the problem whose rows begin at ``row``."""
    ints = episodes.ints[e]
    ints[:] = 0
    ints[FIRST_ROW] = row
    ints[ROW] = row
    ints[BUDGET] = budget
    ints[OPEN] = -1
    ints[SHAPE] = -1
    episodes.rank_bytes[e] = 0
    episodes.stage_s[e] = 0.0
    episodes.reals[e, :] = 0.0
    episodes.held[e, :] = False
    episodes.leaving[e, :] = 0
    episodes.decisions[e, :] = -1
    episodes.chosen[e, :, :] = 0.0
    _skip_phases(tables, episodes, e)
    fill_rest(tables, episodes, e)
    _bound(tables, episodes, e)


@kernel
def act_all(tables: Tables, episodes: Episodes, actions: Ints, replaced: Ints) -> None:
    """Act in every episode that is not over; what is not allowed becomes the fallback.

    Args:
        tables: of all problems.
        episodes: to change.
        actions: one for each.  # [e]
        replaced: to fill, 1 where the fallback was taken.  # [e]
    """
    for e in range(len(actions)):
        replaced[e] = 0
        if episodes.ints[e, PHASE] == _DONE:
            continue
        action = actions[e]
        if action < 0 or action >= NUM_ACTIONS or not episodes.mask[e, action]:
            action = episodes.ints[e, FALLBACK]
            replaced[e] = 1
        _act(tables, episodes, e, action)
        _bound(tables, episodes, e)


@kernel
def _bound(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    if tables.ints[ints[FIRST_ROW], NUM_SHAPES] == 0:
        fill_bound(tables, episodes, e)
        if ints[PHASE] <= _PLACES:
            fill_least_bound(tables, episodes, e)
    elif ints[PHASE] < _PLACES:
        fill_least_pipeline_bound(tables, episodes, e)
    elif ints[PHASE] > _PLACES:
        fill_pipeline_bound(tables, episodes, e)


@kernel
def _act(tables: Tables, episodes: Episodes, e: int, action: int) -> None:
    ints = episodes.ints[e]
    phase = ints[PHASE]
    if phase == _UNITS:
        _decide(tables, episodes, e, action)
        return
    if tables.ints[ints[FIRST_ROW], NUM_SHAPES] and phase < _PACES:
        choose(tables, episodes, e, action)
        _skip_phases(tables, episodes, e)
        fill_rest(tables, episodes, e)
        return
    if phase == _COUNTS:
        ints[ROW] = ints[FIRST_ROW] + action
    elif phase == _PLACES:
        ints[PLACE] = action
    else:
        ints[PACE] = action
    ints[PHASE] = phase + 1
    _skip_phases(tables, episodes, e)
    fill_rest(tables, episodes, e)


@kernel
def _skip_phases(tables: Tables, episodes: Episodes, e: int) -> None:
    """Go on to the first phase from here on with more than one choice."""
    ints = episodes.ints[e]
    if tables.ints[ints[FIRST_ROW], NUM_SHAPES]:
        skip_settings(tables, episodes, e)
    else:
        skip_device_settings(tables, episodes, e)


@kernel
def _decide(tables: Tables, episodes: Episodes, e: int, action: int) -> None:
    """Decide about the cursor's unit and move on."""
    ints = episodes.ints[e]
    row, unit = ints[ROW], ints[CURSOR]
    episodes.decisions[e, unit] = action
    episodes.chosen[e, unit, action] = 1.0
    begin_trial(episodes)
    cut = action >= NUM_DECISIONS
    action %= NUM_DECISIONS
    if ints[SHAPE] >= 0:
        note_unit(tables, episodes, e)
    if action == _OPENS:
        ints[OPEN] = group_start(episodes, e)
    elif action == 0 or action >= FIRST_OPTION:
        _take_option(tables, episodes, e, 0 if action == 0 else action - FIRST_OPTION + 1)
    else:
        _close_group(tables, episodes, e, action)
    ints[ON_THE_WAY] -= episodes.leaving[e, unit]
    ints[CURSOR] = unit + 1
    if ints[OPEN] < 0:
        way = ints[ON_THE_WAY]
        ints[LASTING] = ints[HELD] + border_bytes(tables, episodes, e, unit + 1, False)
        ints[BASE] = ints[LASTING] + way
        ints[HELD_BACK] = ints[HELD] + way + border_bytes(tables, episodes, e, unit + 1, True)
    if unit + 1 == tables.ints[row, UNITS]:
        ints[PHASE] = _DONE
    if ints[SHAPE] >= 0 and (cut or ints[PHASE] == _DONE):
        end_stage(tables, episodes, e)


@kernel
def _take_option(tables: Tables, episodes: Episodes, e: int, option: int) -> None:
    ints, reals = episodes.ints[e], episodes.reals[e]
    row, unit, times = ints[ROW], ints[CURSOR], tables.ints[ints[ROW], MICRO_BATCHES]
    added = hold_option(tables, episodes, e, option)
    if ints[SHAPE] >= 0:
        note_option(tables, episodes, e, option)
    ints[HELD] += added
    _send(episodes, e, unit, tables.option[row, unit, option, MOVED])
    reals[COMPUTE] += times * tables.option_s[row, unit, option, 0]
    reals[STORE] += times * tables.option_s[row, unit, option, 1]
    reals[LOAD] += times * tables.option_s[row, unit, option, 2]


@kernel
def _close_group(tables: Tables, episodes: Episodes, e: int, action: int) -> None:
    ints, reals = episodes.ints[e], episodes.reals[e]
    row, start, end = ints[ROW], group_start(episodes, e), ints[CURSOR] + 1
    offloaded, moved = action == _OFFLOADED, 0
    if offloaded:
        moved = offloaded_inputs(tables, episodes, e, start, end)
        _send(episodes, e, start, moved)
        reals[STORE] += tables.ints[row, MICRO_BATCHES] * moved / tables.reals[row, STORE_RATE]
        reals[LOAD] += tables.ints[row, MICRO_BATCHES] * moved / tables.reals[row, LOAD_RATE]
    inputs = hold_inputs(tables, episodes, e, start, end, offloaded)
    if ints[SHAPE] >= 0:
        note_group(tables, episodes, e, action, inputs, moved)
    ints[HELD] += inputs
    again_s = group_s(tables, row, start, end, action == _NESTED)
    reals[COMPUTE] += tables.ints[row, MICRO_BATCHES] * again_s
    ints[OPEN] = -1


@kernel
def _send(episodes: Episodes, e: int, start: int, moved: int) -> None:
    """Let bytes of units from ``start`` to the cursor's go to the host and come back."""
    ints = episodes.ints[e]
    ints[ON_HOST] += moved
    ints[ON_THE_WAY] += moved
    episodes.leaving[e, there_until(episodes, e, start, ints[CURSOR] + 1)] += moved
