"""Which decisions about a unit of one device are allowed, and what each leads to; compiled.

A decision is allowed if its own peak fits and the least-memory completion after it does. The base
after it counts every storage once, so it is never above the bound that the completion was found
with, and the completion's own next decision stays allowed.
"""

from __future__ import annotations

from remora.envs.actions import FIRST_OPTION, UnitDecision
from remora.envs.arrays import (
    BASE,
    BUDGET,
    COMPUTE,
    CURSOR,
    HELD_BACK,
    LASTING,
    LOAD,
    ON_HOST,
    OPEN,
    PLACE,
    ROW,
    STORE,
    Episodes,
    Tables,
)
from remora.envs.columns import (
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
    OFFLOADS,
    PLAIN,
    SAVES,
    STORE_RATE,
    UNITS,
    WORK_S,
)
from remora.envs.filling import is_plain
from remora.envs.holding import (
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
from remora.envs.jit import kernel
from remora.envs.offering import offer
from remora.envs.outlook import rest_of_device_s
from remora.envs.price_levels import COPY_WEIGHT
from remora.envs.seconds import group_s

__all__ = ["look_at_unit"]

_OPENS, _CLOSES = int(UnitDecision.OPEN), int(UnitDecision.CLOSE)
_NESTED, _OFFLOADED = int(UnitDecision.CLOSE_NESTED), int(UnitDecision.CLOSE_OFFLOADED)


@kernel
def look_at_unit(tables: Tables, episodes: Episodes, e: int) -> None:
    """Offer everything that is allowed for the cursor's unit."""
    ints = episodes.ints[e]
    if ints[OPEN] < 0:
        _look_at_options(tables, episodes, e)
    if tables.unit[ints[ROW], ints[CURSOR], KEEP_ONLY] == 0:
        _look_at_groups(tables, episodes, e)


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
        outlook_s = _outlook_s(tables, episodes, e, compute_s, copies_s, unit + 1, lasting)
        room = limit - highest
        offer(tables, episodes, e, action, room, compute_s, copies_s, 0.0, outlook_s)


@kernel
def _look_at_groups(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, start, end = ints[ROW], group_start(episodes, e), ints[CURSOR] + 1
    times = tables.ints[row, MICRO_BATCHES]
    limit = ints[BUDGET] - tables.placed[row, ints[PLACE], 0]
    forward = ints[BASE] + tables.span[row, start, end, GROUP_FORWARD]
    if end < tables.ints[row, UNITS] and tables.unit[row, end, KEEP_ONLY] == 0:
        peak = _closed_later(tables, episodes, e, start, end + 1, limit)
        seconds = times * group_s(
            tables, row, start, end + 1, not is_plain(tables, episodes, e, start, end + 1)
        )
        lasting = ints[LASTING] + tables.span[row, start, end + 1, MADE]
        outlook_s = _outlook_s(tables, episodes, e, seconds, 0.0, end + 1, lasting)
        offer(tables, episodes, e, _OPENS, limit - peak, 0.0, 0.0, 0.0, outlook_s)
    if end - start == 1 and tables.unit[row, start, SAVES] == 0:
        return
    begin_trial(episodes)
    inputs = hold_inputs(tables, episodes, e, start, end, False)
    lasting = lasting_after(tables, episodes, e, inputs)
    after = completed_peak(tables, episodes, e, end, lasting, 0, 0)
    undo_trial(episodes, e)
    back = ints[HELD_BACK] + inputs
    plain = max(forward, back + tables.span[row, start, end, PLAIN], after)
    seconds = times * group_s(tables, row, start, end, False)
    outlook_s = _outlook_s(tables, episodes, e, seconds, 0.0, end, lasting)
    offer(tables, episodes, e, _CLOSES, limit - plain, seconds, 0.0, 0.0, outlook_s)
    if end - start > 1:
        nested = max(forward, back + tables.span[row, start, end, NESTED], after)
        more_s = times * group_s(tables, row, start, end, True)
        outlook_s = _outlook_s(tables, episodes, e, more_s, 0.0, end, lasting)
        offer(tables, episodes, e, _NESTED, limit - nested, more_s, 0.0, 0.0, outlook_s)
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
    outlook_s = _outlook_s(tables, episodes, e, seconds, copies_s, end, lasting)
    offer(tables, episodes, e, _OFFLOADED, limit - highest, seconds, copies_s, 0.0, outlook_s)


@kernel
def _outlook_s(
    tables: Tables,
    episodes: Episodes,
    e: int,
    compute_s: float,
    copies_s: float,
    unit: int,
    lasting: int,
) -> float:
    """Likely seconds of the step, if units from one on are what is left after a decision."""
    reals, row = episodes.reals[e], episodes.ints[e, ROW]
    rest_s = rest_of_device_s(tables, episodes, e, unit, lasting)
    work_s = tables.reals[row, WORK_S] + reals[COMPUTE] + compute_s + COPY_WEIGHT * copies_s
    work_s += tables.ints[row, MICRO_BATCHES] * rest_s
    return float(max(work_s, max(reals[STORE], reals[LOAD]) + copies_s))
