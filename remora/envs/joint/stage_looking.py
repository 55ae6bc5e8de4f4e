"""Which decisions about a unit of a pipeline are allowed, and what each leads to; compiled.

A decision is allowed if one of the known ways to finish the stage fits its rank afterwards and all
later stages can hold what is left. Ways are plans, so the next step of the one that fits stays
allowed: each ends in a cut after which the next stage has a way of its own.
"""

from __future__ import annotations

from remora.envs.joint.actions import FIRST_OPTION, NUM_DECISIONS, UnitDecision
from remora.envs.joint.arrays import (
    BACKWARD_PEAK,
    BASE,
    BUDGET,
    CURSOR,
    FORWARD_PEAK,
    HELD_BACK,
    LASTING,
    ON_HOST,
    ON_THE_WAY,
    OPEN,
    ROW,
    SHAPE,
    STAGE,
    STAGE_DOUBLED,
    Episodes,
    Tables,
)
from remora.envs.joint.columns import (
    BACKWARD,
    DOUBLED,
    EXISTS,
    FORWARD,
    GROUP_FORWARD,
    KEEP_ONLY,
    LOAD_RATE,
    MADE,
    MICRO_BATCHES,
    MOVED,
    NESTED,
    NUM_WAY_COLUMNS,
    OFFLOADS,
    PLAIN,
    SAVES,
    STAGES,
    STORE_RATE,
    WAY_BACKWARD,
    WAY_FIRST_END,
    WAY_FORWARD,
    WAY_HELD,
)
from remora.envs.joint.holding import (
    begin_trial,
    group_start,
    hold_inputs,
    hold_option,
    lasting_after,
    offloaded_inputs,
    touched_before,
    undo_trial,
)
from remora.envs.joint.jit import kernel
from remora.envs.joint.offering import offer
from remora.envs.joint.pipeline_seconds import stage_share
from remora.envs.joint.seconds import group_s
from remora.envs.joint.stage_completions import NUM_WAYS
from remora.envs.joint.stage_ends import (
    FIXED,
    TRIAL_DOUBLED,
    TRIAL_MOVED,
    TRIAL_WAY,
    fill_ends,
    last_end,
    room_at,
)

__all__ = ["look_at_unit"]

_OPENS, _CLOSES = int(UnitDecision.OPEN), int(UnitDecision.CLOSE)
_NESTED, _OFFLOADED = int(UnitDecision.CLOSE_NESTED), int(UnitDecision.CLOSE_OFFLOADED)


@kernel
def look_at_unit(tables: Tables, episodes: Episodes, e: int) -> None:
    """Offer everything that is allowed for the cursor's unit."""
    ints = episodes.ints[e]
    fill_ends(tables, episodes, e)
    if ints[OPEN] < 0:
        _look_at_options(tables, episodes, e)
    if tables.unit[ints[ROW], ints[CURSOR], KEEP_ONLY] == 0:
        _look_at_groups(tables, episodes, e)


@kernel
def _look_at_options(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, unit, times = ints[ROW], ints[CURSOR], tables.ints[ints[ROW], MICRO_BATCHES]
    for option in range(tables.option.shape[2]):
        if tables.option[row, unit, option, EXISTS] == 0:
            continue
        sizes, seconds = tables.option[row, unit, option], tables.option_s[row, unit, option]
        begin_trial(episodes)
        added = hold_option(tables, episodes, e, option)
        lasting = lasting_after(tables, episodes, e, added)
        backward = ints[HELD_BACK] + touched_before(tables, episodes, e) + sizes[BACKWARD]
        undo_trial(episodes, e)
        _begin(episodes, e, sizes[MOVED], sizes[DOUBLED])
        forward = max(ints[FORWARD_PEAK], ints[BASE] + sizes[FORWARD])
        backward = max(ints[BACKWARD_PEAK], backward)
        action = 0 if option == 0 else FIRST_OPTION - 1 + option
        copies_s = times * max(seconds[1], seconds[2])
        _offer_both(tables, episodes, e, action, lasting, forward, backward, seconds[0], copies_s)


@kernel
def _begin(episodes: Episodes, e: int, moved: int, doubled: int) -> None:
    """Begin a trial that moves bytes to the host.

    If the stage ends here, what a next forward would wait for stays until there is one.
    """
    ints, trial = episodes.ints[e], episodes.trial
    trial[TRIAL_WAY] = ints[ON_THE_WAY] + moved
    trial[TRIAL_DOUBLED] = ints[STAGE_DOUBLED] + doubled
    trial[TRIAL_MOVED] = ints[ON_HOST] + moved


@kernel
def _offer_both(
    tables: Tables,
    episodes: Episodes,
    e: int,
    action: int,
    lasting: int,
    forward: int,
    backward: int,
    seconds: float,
    copies_s: float,
) -> None:
    """Offer a decision that leaves no group open, with a cut after it and without.

    Args:
        tables: of all problems.
        episodes: with the trial's bytes filled in.
        e: the episode.
        action: the decision.
        lasting: what lasts of the base of the next unit.
        forward: peak of the forwards of the stage's units up to the cursor's.
        backward: the same of their backwards.
        seconds: that the decision adds to one micro-batch.
        copies_s: seconds of its copies in all of them.
    """
    ints = episodes.ints[e]
    end, last = ints[CURSOR] + 1, last_end(tables, episodes, e)
    final = ints[STAGE] + 1 == tables.pipelines.shape[ints[SHAPE], STAGES]
    compute_s = tables.ints[ints[ROW], MICRO_BATCHES] * seconds
    share = stage_share(tables, episodes, e, seconds)
    if end == last or not final:
        room = room_at(tables, episodes, e, end, lasting, forward, backward)
        cut = 0 if final else NUM_DECISIONS
        offer(tables, episodes, e, action + cut, room, compute_s, copies_s, share)
    if end < last:
        room = -1
        for stop in range(last if final else end + 1, last + 1):
            if room >= 0 and _full(episodes, e, stop):
                break
            found = _finished(tables, episodes, e, end, stop, lasting, forward, backward)
            room = max(room, found)
        offer(tables, episodes, e, action, room, compute_s, copies_s, share)


@kernel
def _full(episodes: Episodes, e: int, end: int) -> bool:
    """Whether a stage that ends before a unit does not fit whatever is decided."""
    taken = episodes.taken[0] + episodes.ends[end, FIXED]
    return bool(taken > episodes.ints[e, BUDGET])


@kernel
def _finished(
    tables: Tables,
    episodes: Episodes,
    e: int,
    start: int,
    end: int,
    lasting: int,
    forward: int,
    backward: int,
) -> int:
    """Most bytes that any way from unit ``start`` on to the stage's end leaves."""
    room = -1
    for number in range(NUM_WAYS):
        found = _finished_by(tables, episodes, e, start, end, number, lasting, forward, backward)
        room = max(room, found)
    return room


@kernel
def _finished_by(
    tables: Tables,
    episodes: Episodes,
    e: int,
    start: int,
    end: int,
    number: int,
    lasting: int,
    forward: int,
    backward: int,
) -> int:
    span, at = tables.span[episodes.ints[e, ROW], start, end], number * NUM_WAY_COLUMNS
    base = lasting + episodes.trial[TRIAL_WAY]
    forward = max(forward, base + span[at + WAY_FORWARD])
    backward = max(backward, base + span[at + WAY_BACKWARD])
    return room_at(tables, episodes, e, end, lasting + span[at + WAY_HELD], forward, backward)


@kernel
def _look_at_groups(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, start, end = ints[ROW], group_start(episodes, e), ints[CURSOR] + 1
    _begin(episodes, e, 0, 0)
    if end < last_end(tables, episodes, e) and tables.unit[row, end, KEEP_ONLY] == 0:
        offer(tables, episodes, e, _OPENS, _opened(tables, episodes, e, start), 0.0, 0.0, 0.0)
    if end - start == 1 and tables.unit[row, start, SAVES] == 0:
        return
    forward = max(ints[FORWARD_PEAK], ints[BASE] + tables.span[row, start, end, GROUP_FORWARD])
    begin_trial(episodes)
    inputs = hold_inputs(tables, episodes, e, start, end, False)
    lasting = lasting_after(tables, episodes, e, inputs)
    undo_trial(episodes, e)
    back, seconds = ints[HELD_BACK] + inputs, group_s(tables, row, start, end, False)
    backward = max(ints[BACKWARD_PEAK], back + tables.span[row, start, end, PLAIN])
    _offer_both(tables, episodes, e, _CLOSES, lasting, forward, backward, seconds, 0.0)
    if end - start > 1:
        backward = max(ints[BACKWARD_PEAK], back + tables.span[row, start, end, NESTED])
        more_s = group_s(tables, row, start, end, True)
        _offer_both(tables, episodes, e, _NESTED, lasting, forward, backward, more_s, 0.0)
    if tables.ints[row, OFFLOADS]:
        _look_at_offloaded(tables, episodes, e, start, forward, seconds)


@kernel
def _opened(tables: Tables, episodes: Episodes, e: int, start: int) -> int:
    """Most bytes left if the group goes on.

    It may end with the next unit, with the stage, or where a way that begins with a group says.
    """
    ints = episodes.ints[e]
    first, last = ints[CURSOR] + 2, last_end(tables, episodes, e)
    final = ints[STAGE] + 1 == tables.pipelines.shape[ints[SHAPE], STAGES]
    spans, room = tables.span[ints[ROW], start], -1
    for end in range(last if final else first, last + 1):
        if room >= 0 and _full(episodes, e, end):
            break
        room = max(room, _grouped(tables, episodes, e, start, end, end, -1))
        for number in range(NUM_WAYS):
            if first < end:
                found = _grouped(tables, episodes, e, start, first, end, number)
                room = max(room, found)
            stop = spans[end, number * NUM_WAY_COLUMNS + WAY_FIRST_END]
            if first < stop < end:
                found = _grouped(tables, episodes, e, start, stop, end, number)
                room = max(room, found)
    return room


@kernel
def _grouped(
    tables: Tables, episodes: Episodes, e: int, start: int, stop: int, end: int, number: int
) -> int:
    """Bytes left after a group up to a unit and a way from there to the end of the stage."""
    ints = episodes.ints[e]
    row = ints[ROW]
    again = min(tables.span[row, start, stop, PLAIN], tables.span[row, start, stop, NESTED])
    forward = max(ints[FORWARD_PEAK], ints[BASE] + tables.span[row, start, stop, GROUP_FORWARD])
    backward = max(ints[BACKWARD_PEAK], ints[BASE] + again)
    lasting = ints[LASTING] + tables.span[row, start, stop, MADE]
    if stop == end:
        return room_at(tables, episodes, e, end, lasting, forward, backward)
    return _finished_by(tables, episodes, e, stop, end, number, lasting, forward, backward)


@kernel
def _look_at_offloaded(
    tables: Tables, episodes: Episodes, e: int, start: int, forward: int, seconds: float
) -> None:
    """Close the group with what it alone reads on the host."""
    ints = episodes.ints[e]
    row, end = ints[ROW], ints[CURSOR] + 1
    moved = offloaded_inputs(tables, episodes, e, start, end)
    if moved == 0:
        return
    begin_trial(episodes)
    inputs = hold_inputs(tables, episodes, e, start, end, True)
    lasting = lasting_after(tables, episodes, e, inputs)
    undo_trial(episodes, e)
    _begin(episodes, e, moved, moved)
    # What comes back is there beside the original, if somebody else holds that.
    backward = ints[HELD_BACK] + inputs + moved + tables.span[row, start, end, PLAIN]
    backward = max(ints[BACKWARD_PEAK], backward)
    copies_s = (
        tables.ints[row, MICRO_BATCHES]
        * moved
        / min(tables.reals[row, STORE_RATE], tables.reals[row, LOAD_RATE])
    )
    _offer_both(tables, episodes, e, _OFFLOADED, lasting, forward, backward, seconds, copies_s)
