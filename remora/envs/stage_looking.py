"""Which decisions about a unit of a pipeline are allowed, and what each leads to; compiled.

A decision is allowed if one of the known ways to finish the stage fits its rank afterwards and all
later stages can hold what is left. Ways are plans, so the next step of the one that fits stays
allowed: each ends in a cut after which the next stage has a way of its own.
"""

from __future__ import annotations

from remora.envs.actions import FIRST_OPTION, NUM_DECISIONS, UnitDecision
from remora.envs.arrays import (
    BACKWARD_PEAK,
    BASE,
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
from remora.envs.columns import (
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
    OFFLOADS,
    PLAIN,
    SAVES,
    STAGES,
    STORE_RATE,
)
from remora.envs.filling import is_plain
from remora.envs.holding import (
    begin_trial,
    group_start,
    hold_inputs,
    hold_option,
    lasting_after,
    offloaded_inputs,
    touched_before,
    undo_trial,
)
from remora.envs.jit import kernel
from remora.envs.offering import offer
from remora.envs.outlook import stage_outlook_s
from remora.envs.pipeline_seconds import stage_share
from remora.envs.seconds import group_s
from remora.envs.stage_ends import (
    TRIAL_DOUBLED,
    TRIAL_MOVED,
    TRIAL_WAY,
    fill_ends,
    last_end,
    room_at,
)
from remora.envs.stage_finishing import room_behind, room_opened

__all__ = ["look_at_stage_unit"]

_OPENS, _CLOSES = int(UnitDecision.OPEN), int(UnitDecision.CLOSE)
_NESTED, _OFFLOADED = int(UnitDecision.CLOSE_NESTED), int(UnitDecision.CLOSE_OFFLOADED)


@kernel
def look_at_stage_unit(tables: Tables, episodes: Episodes, e: int) -> None:
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
    once_s = copies_s / tables.ints[ints[ROW], MICRO_BATCHES]
    if end == last or not final:
        room = room_at(tables, episodes, e, end, lasting, forward, backward)
        cut = 0 if final else NUM_DECISIONS
        outlook_s = stage_outlook_s(tables, episodes, e, end, seconds, once_s, lasting, (end, end))
        offer(tables, episodes, e, action + cut, room, compute_s, copies_s, share, outlook_s)
    if end < last:
        room = room_behind(tables, episodes, e, lasting, forward, backward)
        low = last if final else end + 1
        outlook_s = stage_outlook_s(tables, episodes, e, end, seconds, once_s, lasting, (low, last))
        offer(tables, episodes, e, action, room, compute_s, copies_s, share, outlook_s)


@kernel
def _look_at_groups(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    row, start, end = ints[ROW], group_start(episodes, e), ints[CURSOR] + 1
    _begin(episodes, e, 0, 0)
    if end < last_end(tables, episodes, e) and tables.unit[row, end, KEEP_ONLY] == 0:
        _offer_open(tables, episodes, e, start, end)
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
def _offer_open(tables: Tables, episodes: Episodes, e: int, start: int, end: int) -> None:
    """Offer to leave a group open, seen as one that the next unit closes."""
    ints = episodes.ints[e]
    row, last = ints[ROW], last_end(tables, episodes, e)
    final = ints[STAGE] + 1 == tables.pipelines.shape[ints[SHAPE], STAGES]
    nested = not is_plain(tables, episodes, e, start, end + 1)
    more_s = group_s(tables, row, start, end + 1, nested)
    lasting = ints[LASTING] + tables.span[row, start, end + 1, MADE]
    low = last if final else end + 1
    outlook_s = stage_outlook_s(tables, episodes, e, end + 1, more_s, 0.0, lasting, (low, last))
    share = stage_share(tables, episodes, e, more_s)
    room = room_opened(tables, episodes, e, start)
    offer(tables, episodes, e, _OPENS, room, 0.0, 0.0, share, outlook_s)


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
