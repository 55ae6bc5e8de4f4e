"""Which decisions are allowed, and what each leads to; compiled.

A decision is allowed if its own peak fits and the least-memory completion after it does. The base
after it counts every storage once, so it is never above the bound that the completion was found
with, and the completion's own next decision stays allowed.
"""

from __future__ import annotations

import numpy as np

from remora.envs.joint.actions import FIRST_OPTION, NUM_STATES, PACES, Phase, UnitDecision
from remora.envs.joint.arrays import (
    BASE,
    BUDGET,
    CURSOR,
    FIRST_ROW,
    HELD_BACK,
    LASTING,
    ON_HOST,
    OPEN,
    PHASE,
    PLACE,
    ROW,
    SHAPE,
    Episodes,
    Tables,
)
from remora.envs.joint.columns import (
    BACKWARD,
    EXISTS,
    FORWARD,
    GROUP_FORWARD,
    HOST_MEMORY,
    KEEP_ONLY,
    LOAD_RATE,
    MADE,
    MICRO_BATCHES,
    MOVED,
    NESTED,
    NUM_SHAPES,
    OFFLOADS,
    PLAIN,
    ROWS,
    SAVES,
    STATE_STEP_S,
    STORE_RATE,
    UNITS,
    WORK_S,
)
from remora.envs.joint.holding import (
    begin_trial,
    completed_peak,
    group_start,
    hold_inputs,
    hold_option,
    lasting_after,
    offloaded_inputs,
    there_until,
    touched_before,
    undo_trial,
)
from remora.envs.joint.jit import kernel
from remora.envs.joint.least_budgets import least_budget
from remora.envs.joint.offering import choose_fallback, forbid_all, offer
from remora.envs.joint.pipeline_choosing import look_at_settings, look_at_states
from remora.envs.joint.seconds import group_s
from remora.envs.joint.stage_looking import look_at_unit
from remora.envs.joint.telling import tell

__all__ = ["look_at"]

_COUNTS, _PLACES, _PACES = int(Phase.MICRO_BATCHES), int(Phase.STATE), int(Phase.PACE)
_UNITS, _DONE = int(Phase.UNITS), int(Phase.DONE)
_OPENS, _CLOSES = int(UnitDecision.OPEN), int(UnitDecision.CLOSE)
_NESTED, _OFFLOADED = int(UnitDecision.CLOSE_NESTED), int(UnitDecision.CLOSE_OFFLOADED)
_WINDOWS = tuple(window for window, _ in PACES)


@kernel
def look_at(tables: Tables, episodes: Episodes, first: int, end: int) -> None:
    """Fill what episodes ``first`` to ``end - 1`` show and allow."""
    for e in range(first, end):
        _look(tables, episodes, e)
        tell(tables, episodes, e)


@kernel
def _look(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill mask, fallback and what is told about every choice of an episode."""
    forbid_all(episodes, e)
    phase = episodes.ints[e, PHASE]
    if phase == _DONE:
        return
    if tables.ints[episodes.ints[e, FIRST_ROW], NUM_SHAPES]:
        _look_at_pipeline(tables, episodes, e)
    elif phase == _COUNTS:
        _look_at_counts(tables, episodes, e)
    elif phase == _PLACES:
        _look_at_places(tables, episodes, e)
    elif phase == _PACES:
        ints = episodes.ints[e]
        _look_at_paces(tables, episodes, e, _room_with(tables, episodes, e, ints[ROW], ints[PLACE]))
    else:
        if episodes.ints[e, OPEN] < 0:
            _look_at_options(tables, episodes, e)
        if tables.unit[episodes.ints[e, ROW], episodes.ints[e, CURSOR], KEEP_ONLY] == 0:
            _look_at_groups(tables, episodes, e)
    choose_fallback(episodes, e)


@kernel
def _look_at_pipeline(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    phase = ints[PHASE]
    if phase < _PLACES:
        look_at_settings(tables, episodes, e)
    elif phase == _PLACES:
        look_at_states(tables, episodes, e)
    elif phase == _PACES:
        least = least_budget(tables, ints[SHAPE], ints[PLACE], 0, 0)
        _look_at_paces(tables, episodes, e, ints[BUDGET] - least)
    else:
        look_at_unit(tables, episodes, e)


@kernel
def _look_at_paces(tables: Tables, episodes: Episodes, e: int, headroom: int) -> None:
    for pace in range(len(_WINDOWS)):
        offer(tables, episodes, e, pace, headroom, 0.0, 0.0, _WINDOWS[pace] / 8)


@kernel
def _room_with(tables: Tables, episodes: Episodes, e: int, row: int, place: int) -> int:
    """Bytes that a place of the state leaves beside the best completion of nothing; may be < 0."""
    placed = tables.placed[row, place]
    if placed[3] == 0:
        return -1
    if placed[1] > tables.ints[row, HOST_MEMORY] or placed[2] > episodes.ints[e, BUDGET]:
        return -1
    return int(episodes.ints[e, BUDGET] - tables.placed[row, place, 0] - tables.near[row, 0, 0])


@kernel
def _look_at_counts(tables: Tables, episodes: Episodes, e: int) -> None:
    first = episodes.ints[e, FIRST_ROW]
    for action in range(tables.ints[first, ROWS]):
        row, best = first + action, -1
        for place in range(NUM_STATES):
            best = max(best, _room_with(tables, episodes, e, row, place))
        more_s = tables.reals[row, WORK_S] - tables.reals[first, WORK_S]
        value = np.log2(tables.ints[row, MICRO_BATCHES]) / 5
        offer(tables, episodes, e, action, best, more_s, 0.0, value)


@kernel
def _look_at_places(tables: Tables, episodes: Episodes, e: int) -> None:
    row = episodes.ints[e, ROW]
    for place in range(NUM_STATES):
        headroom = _room_with(tables, episodes, e, row, place)
        more_s = tables.reals[row, STATE_STEP_S + place] - tables.reals[row, STATE_STEP_S + 0]
        offer(tables, episodes, e, place, headroom, more_s, 0.0, place / NUM_STATES)


@kernel
def _look_at_options(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, unit, times = ints[ROW], ints[CURSOR], tables.ints[ints[ROW], MICRO_BATCHES]
    limit = ints[BUDGET] - tables.placed[row, ints[PLACE], 0]
    host = tables.ints[row, HOST_MEMORY] - tables.placed[row, ints[PLACE], 1] - ints[ON_HOST]
    for option in range(tables.option.shape[2]):
        if tables.option[row, unit, option, EXISTS] == 0:
            continue
        forward, backward, moved = (
            tables.option[row, unit, option, FORWARD],
            tables.option[row, unit, option, BACKWARD],
            tables.option[row, unit, option, MOVED],
        )
        if moved > host:
            continue
        begin_trial(episodes)
        added = hold_option(tables, episodes, e, option)
        lasting = lasting_after(tables, episodes, e, added)
        until = there_until(episodes, e, unit, unit + 1)
        after = completed_peak(tables, episodes, e, unit + 1, lasting, moved, until)
        backward += ints[HELD_BACK] + touched_before(tables, episodes, e)
        undo_trial(episodes, e)
        highest = max(ints[BASE] + forward, backward, after)
        action = 0 if option == 0 else FIRST_OPTION - 1 + option
        compute_s, store_s, load_s = (
            times * tables.option_s[row, unit, option, 0],
            times * tables.option_s[row, unit, option, 1],
            times * tables.option_s[row, unit, option, 2],
        )
        copies_s = max(store_s, load_s)
        offer(tables, episodes, e, action, limit - highest, compute_s, copies_s, 0.0)


@kernel
def _look_at_groups(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, start, end = ints[ROW], group_start(episodes, e), ints[CURSOR] + 1
    limit = ints[BUDGET] - tables.placed[row, ints[PLACE], 0]
    forward = ints[BASE] + tables.span[row, start, end, GROUP_FORWARD]
    if end < tables.ints[row, UNITS] and tables.unit[row, end, KEEP_ONLY] == 0:
        peak = _closed_later(tables, episodes, e, start, end + 1, limit)
        offer(tables, episodes, e, _OPENS, limit - peak, 0.0, 0.0, 0.0)
    if end - start == 1 and tables.unit[row, start, SAVES] == 0:
        return
    begin_trial(episodes)
    inputs = hold_inputs(tables, episodes, e, start, end, False)
    lasting = lasting_after(tables, episodes, e, inputs)
    after = completed_peak(tables, episodes, e, end, lasting, 0, 0)
    undo_trial(episodes, e)
    back = ints[HELD_BACK] + inputs
    plain = max(forward, back + tables.span[row, start, end, PLAIN], after)
    times = tables.ints[row, MICRO_BATCHES]
    seconds = times * group_s(tables, row, start, end, False)
    offer(tables, episodes, e, _CLOSES, limit - plain, seconds, 0.0, 0.0)
    if end - start > 1:
        nested = max(forward, back + tables.span[row, start, end, NESTED], after)
        more_s = times * group_s(tables, row, start, end, True)
        offer(tables, episodes, e, _NESTED, limit - nested, more_s, 0.0, 0.0)
    if tables.ints[row, OFFLOADS]:
        _look_at_offloaded(tables, episodes, e, start, end, limit, seconds)


@kernel
def _closed_later(
    tables: Tables, episodes: Episodes, e: int, start: int, first: int, limit: int
) -> int:
    """Least peak if the group ends at unit ``first`` or later; over ``limit`` if none fits."""
    ints = episodes.ints[e]
    row, least = ints[ROW], limit + 1
    for end in range(first, tables.ints[row, UNITS] + 1):
        own = ints[BASE] + tables.span[row, start, end, GROUP_FORWARD]
        if own >= least:
            break
        nested = min(tables.span[row, start, end, PLAIN], tables.span[row, start, end, NESTED])
        own = max(own, ints[BASE] + nested)
        if own >= least:
            continue
        lasting = ints[LASTING] + tables.span[row, start, end, MADE]
        least = min(least, max(own, completed_peak(tables, episodes, e, end, lasting, 0, 0)))
    return int(least)


@kernel
def _look_at_offloaded(
    tables: Tables, episodes: Episodes, e: int, start: int, end: int, limit: int, seconds: float
) -> None:
    """Close the group with what it alone reads on the host."""
    ints = episodes.ints[e]
    row = ints[ROW]
    moved = offloaded_inputs(tables, episodes, e, start, end)
    host = tables.ints[row, HOST_MEMORY] - tables.placed[row, ints[PLACE], 1] - ints[ON_HOST]
    if moved == 0 or moved > host:
        return
    begin_trial(episodes)
    inputs = hold_inputs(tables, episodes, e, start, end, True)
    lasting = lasting_after(tables, episodes, e, inputs)
    until = there_until(episodes, e, start, end)
    after = completed_peak(tables, episodes, e, end, lasting, moved, until)
    undo_trial(episodes, e)
    forward = ints[BASE] + tables.span[row, start, end, GROUP_FORWARD]
    # What comes back is there beside the original, if somebody else holds that.
    backward = ints[HELD_BACK] + inputs + moved + tables.span[row, start, end, PLAIN]
    highest = max(forward, backward, after)
    copies_s = (
        tables.ints[row, MICRO_BATCHES]
        * moved
        / min(tables.reals[row, STORE_RATE], tables.reals[row, LOAD_RATE])
    )
    offer(tables, episodes, e, _OFFLOADED, limit - highest, seconds, copies_s, 0.0)
