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
    FIRST_COUNT,
    FIRST_STAGE,
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
from remora.envs.segments import NEVER_FITS
from remora.envs.stage_completions import NUM_WAYS
from remora.envs.stage_ends import AFTER, FIXED, TRIAL_WAY, last_end, room_at

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
        least = lasting + _least_held(tables, episodes, e, start, end)
        if room >= _most_room(tables, episodes, e, end, least, forward):
            continue
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
        if room >= _most_room(tables, episodes, e, end, ints[LASTING], ints[FORWARD_PEAK]):
            continue
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
def _least_held(tables: Tables, episodes: Episodes, e: int, start: int, end: int) -> int:
    """What a micro-batch holds of some units in the end, by the way that holds least."""
    span, least = tables.span[episodes.ints[e, ROW], start, end], NEVER_FITS
    for number in range(NUM_WAYS):
        least = min(least, span[number * NUM_WAY_COLUMNS + WAY_HELD])
    return int(least)


@kernel
def _most_room(
    tables: Tables, episodes: Episodes, e: int, end: int, held: int, forward: int
) -> int:
    """No more bytes are left than this if the stage ends before a unit.

    Args:
        tables: of all problems.
        episodes: with ``ends``, ``taken`` and ``promised`` filled.
        e: the episode.
        end: first unit of the next stage.
        held: bytes that a micro-batch holds at least after its forward.
        forward: peak that the forwards of the stage's units have at least.
    """
    ints, found = episodes.ints[e], episodes.ends[end]
    number = tables.pipelines.stage[
        tables.pipelines.shape[ints[SHAPE], FIRST_STAGE] + ints[STAGE], FIRST_COUNT
    ]
    taken = episodes.taken[0] + found[FIXED] + int(episodes.promised[0] * found[AFTER])
    if number > 0:
        taken += (number - 1) * held + max(held, forward)
    return int(ints[BUDGET] - max(found[AFTER], taken))


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
