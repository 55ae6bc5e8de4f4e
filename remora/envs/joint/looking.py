"""Which decisions are allowed, and what each leads to; compiled.

A decision is allowed if its own peak fits and the least-memory completion after it does. The base
after it counts every storage once, so it is never above the bound that the completion was found
with, and the completion's own next decision stays allowed.
"""

from __future__ import annotations

import numpy as np

from remora.envs.joint.actions import FIRST_OPTION, NUM_ACTIONS, PACES, Phase, UnitDecision
from remora.envs.joint.arrays import (
    BASE,
    BUDGET,
    CURSOR,
    FALLBACK,
    FIRST_ROW,
    HELD_BACK,
    LASTING,
    ON_HOST,
    OPEN,
    PHASE,
    PLACE,
    ROW,
    Episodes,
    Tables,
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
from remora.envs.joint.seconds import group_s
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
    for action in range(NUM_ACTIONS):
        episodes.mask[e, action] = False
        for column in range(episodes.choices.shape[2]):
            episodes.choices[e, action, column] = 0.0
    phase = episodes.ints[e, PHASE]
    if phase == _DONE:
        return
    if phase == _COUNTS:
        _look_at_counts(tables, episodes, e)
    elif phase == _PLACES:
        _look_at_places(tables, episodes, e)
    elif phase == _PACES:
        ints = episodes.ints[e]
        for pace in range(len(_WINDOWS)):
            headroom = _room_with(tables, episodes, e, ints[ROW], ints[PLACE])
            _offer(tables, episodes, e, pace, headroom, 0.0, 0.0, _WINDOWS[pace] / 8)
    else:
        if episodes.ints[e, OPEN] < 0:
            _look_at_options(tables, episodes, e)
        if tables.keep_only[episodes.ints[e, ROW], episodes.ints[e, CURSOR]] == 0:
            _look_at_groups(tables, episodes, e)
    _choose_fallback(episodes, e)


@kernel
def _room_with(tables: Tables, episodes: Episodes, e: int, row: int, place: int) -> int:
    """Bytes that a place of the state leaves beside the best completion of nothing; may be < 0."""
    placed = tables.placed[row, place]
    if placed[1] > tables.sizes[row, 1] or placed[2] > episodes.ints[e, BUDGET]:
        return -1
    return int(episodes.ints[e, BUDGET] - tables.placed[row, place, 0] - tables.rest[row, 0])


@kernel
def _look_at_counts(tables: Tables, episodes: Episodes, e: int) -> None:
    first = episodes.ints[e, FIRST_ROW]
    for action in range(tables.sizes[first, 3]):
        row, best = first + action, -1
        for place in range(tables.sizes[row, 4]):
            best = max(best, _room_with(tables, episodes, e, row, place))
        more_s = tables.work_s[row] - tables.work_s[first]
        value = np.log2(tables.sizes[row, 0]) / 5
        _offer(tables, episodes, e, action, best, more_s, 0.0, value)


@kernel
def _look_at_places(tables: Tables, episodes: Episodes, e: int) -> None:
    row = episodes.ints[e, ROW]
    for place in range(tables.sizes[row, 4]):
        headroom = _room_with(tables, episodes, e, row, place)
        more_s = tables.step_s[row, place] - tables.step_s[row, 0]
        _offer(tables, episodes, e, place, headroom, more_s, 0.0, place / 4)


@kernel
def _look_at_options(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, unit, times = ints[ROW], ints[CURSOR], tables.sizes[ints[ROW], 0]
    limit = ints[BUDGET] - tables.placed[row, ints[PLACE], 0]
    host = tables.sizes[row, 1] - tables.placed[row, ints[PLACE], 1] - ints[ON_HOST]
    for option in range(tables.option_ok.shape[2]):
        if tables.option_ok[row, unit, option] == 0:
            continue
        forward, backward, moved = (
            tables.option_bytes[row, unit, option, 0],
            tables.option_bytes[row, unit, option, 1],
            tables.option_bytes[row, unit, option, 3],
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
        _offer(tables, episodes, e, action, limit - highest, compute_s, copies_s, 0.0)


@kernel
def _look_at_groups(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, start, end = ints[ROW], group_start(episodes, e), ints[CURSOR] + 1
    limit = ints[BUDGET] - tables.placed[row, ints[PLACE], 0]
    forward = ints[BASE] + tables.forward[row, start, end]
    if end < tables.units[row] and tables.keep_only[row, end] == 0:
        peak = _closed_later(tables, episodes, e, start, end + 1, limit)
        _offer(tables, episodes, e, _OPENS, limit - peak, 0.0, 0.0, 0.0)
    if end - start == 1 and tables.saves[row, start] == 0:
        return
    begin_trial(episodes)
    inputs = hold_inputs(tables, episodes, e, start, end, False)
    lasting = lasting_after(tables, episodes, e, inputs)
    after = completed_peak(tables, episodes, e, end, lasting, 0, 0)
    undo_trial(episodes, e)
    back = ints[HELD_BACK] + inputs
    plain = max(forward, back + tables.plain[row, start, end], after)
    seconds = group_s(tables, row, start, end, False)
    _offer(tables, episodes, e, _CLOSES, limit - plain, seconds, 0.0, 0.0)
    if end - start > 1:
        nested = max(forward, back + tables.nested[row, start, end], after)
        more_s = group_s(tables, row, start, end, True)
        _offer(tables, episodes, e, _NESTED, limit - nested, more_s, 0.0, 0.0)
    if tables.sizes[row, 2]:
        _look_at_offloaded(tables, episodes, e, start, end, limit, seconds)


@kernel
def _closed_later(
    tables: Tables, episodes: Episodes, e: int, start: int, first: int, limit: int
) -> int:
    """Least peak if the group ends at unit ``first`` or later; over ``limit`` if none fits."""
    ints = episodes.ints[e]
    row, least = ints[ROW], limit + 1
    for end in range(first, tables.units[row] + 1):
        own = ints[BASE] + tables.forward[row, start, end]
        if own >= least:
            break
        nested = min(tables.plain[row, start, end], tables.nested[row, start, end])
        own = max(own, ints[BASE] + nested)
        if own >= least:
            continue
        lasting = ints[LASTING] + tables.made_since[row, end, start]
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
    host = tables.sizes[row, 1] - tables.placed[row, ints[PLACE], 1] - ints[ON_HOST]
    if moved == 0 or moved > host:
        return
    begin_trial(episodes)
    inputs = hold_inputs(tables, episodes, e, start, end, True)
    lasting = lasting_after(tables, episodes, e, inputs)
    until = there_until(episodes, e, start, end)
    after = completed_peak(tables, episodes, e, end, lasting, moved, until)
    undo_trial(episodes, e)
    forward = ints[BASE] + tables.forward[row, start, end]
    # What comes back is there beside the original, if somebody else holds that.
    backward = ints[HELD_BACK] + inputs + moved + tables.plain[row, start, end]
    highest = max(forward, backward, after)
    copies_s = tables.sizes[row, 0] * moved / min(tables.copies[row, 1], tables.copies[row, 2])
    _offer(tables, episodes, e, _OFFLOADED, limit - highest, seconds, copies_s, 0.0)


@kernel
def _offer(
    tables: Tables,
    episodes: Episodes,
    e: int,
    action: int,
    headroom: int,
    compute_s: float,
    copies_s: float,
    value: float,
) -> None:
    """Allow an action whose completion leaves ``headroom`` bytes, unless that is negative."""
    if headroom < 0:
        return
    scale = tables.scale[episodes.ints[e, FIRST_ROW]]
    choice = episodes.choices[e, action]
    episodes.mask[e, action] = True
    episodes.spare[action] = headroom
    choice[0] = 1.0
    choice[1] = min(10.0, headroom / scale[1])
    choice[2] = max(-10.0, min(10.0, 10 * compute_s / scale[0]))
    choice[3] = min(10.0, 10 * copies_s / scale[0])
    choice[4] = value


@kernel
def _choose_fallback(episodes: Episodes, e: int) -> None:
    """The allowed action that leaves most bytes, the first of several; -1 without any."""
    best = -1
    for action in range(NUM_ACTIONS):
        if episodes.mask[e, action] and (best < 0 or episodes.spare[action] > episodes.spare[best]):
            best = action
    episodes.ints[e, FALLBACK] = best
