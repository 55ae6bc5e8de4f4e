"""What is left if the present stage is finished by one of the known ways; compiled."""

from __future__ import annotations

from remora.envs.arrays import (
    BACKWARD_PEAK,
    BASE,
    BUDGET,
    CURSOR,
    FORWARD_PEAK,
    LASTING,
    ROW,
    SHAPE,
    STAGE,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    GROUP_FORWARD,
    MADE,
    NESTED,
    NUM_WAY_COLUMNS,
    PLAIN,
    STAGES,
    WAY_BACKWARD,
    WAY_FIRST_END,
    WAY_FORWARD,
    WAY_HELD,
)
from remora.envs.jit import kernel
from remora.envs.stage_completions import NUM_WAYS
from remora.envs.stage_ends import FIXED, TRIAL_WAY, last_end, room_at

__all__ = ["room_behind", "room_opened"]


@kernel
def room_behind(
    tables: Tables, episodes: Episodes, e: int, lasting: int, forward: int, backward: int
) -> int:
    """Most bytes left if the stage goes on behind the cursor's unit; negative if none fits.

    Args:
        tables: of all problems.
        episodes: with the trial's bytes filled in.
        e: the episode.
        lasting: what lasts of the base of the next unit.
        forward: peak of the forwards of the stage's units up to the cursor's.
        backward: the same of their backwards.
    """
    start, last = episodes.ints[e, CURSOR] + 1, last_end(tables, episodes, e)
    room = -1
    for end in range(last if _is_final(tables, episodes, e) else start + 1, last + 1):
        if room >= 0 and _full(episodes, e, end):
            break
        for number in range(NUM_WAYS):
            found = _finished_by(
                tables, episodes, e, start, end, number, lasting, forward, backward
            )
            room = max(room, found)
    return room


@kernel
def _is_final(tables: Tables, episodes: Episodes, e: int) -> bool:
    ints = episodes.ints[e]
    return bool(ints[STAGE] + 1 == tables.pipelines.shape[ints[SHAPE], STAGES])


@kernel
def room_opened(tables: Tables, episodes: Episodes, e: int, start: int) -> int:
    """Most bytes left if the group goes on.

    It may end with the next unit, with the stage, or where a way that begins with a group says.
    """
    ints = episodes.ints[e]
    first, last = ints[CURSOR] + 2, last_end(tables, episodes, e)
    spans, room = tables.span[ints[ROW], start], -1
    for end in range(last if _is_final(tables, episodes, e) else first, last + 1):
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
def _full(episodes: Episodes, e: int, end: int) -> bool:
    """Whether a stage that ends before a unit does not fit whatever is decided."""
    taken = episodes.taken[0] + episodes.ends[end, FIXED]
    return bool(taken > episodes.ints[e, BUDGET])


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
