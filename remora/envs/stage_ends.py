"""Where the present stage of an episode may end, and what that leaves; compiled."""

from __future__ import annotations

from remora.envs.actions import PACES
from remora.envs.arrays import (
    BACKWARD_PEAK,
    BUDGET,
    CURSOR,
    FORWARD_PEAK,
    PACE,
    PLACE,
    RANK_HOST,
    ROW,
    SHAPE,
    STAGE,
    STAGE_START,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    ALONE,
    CORNERS,
    FIRST_COUNT,
    FIRST_STAGE,
    HOST_MEMORY,
    MADE,
    RANK,
    RESTORED,
    STAGE_RANKS,
    STAGES,
    UNITS,
)
from remora.envs.jit import kernel
from remora.envs.least_budgets import least_budget
from remora.envs.promises import fill_promised, most_after
from remora.envs.segments import NEVER_FITS
from remora.envs.stage_bytes import (
    NUM_USES,
    STEP_USE,
    device_bytes,
    fill_uses,
    host_bytes,
    step_bytes,
)
from remora.envs.stage_orders import NUM_CORNERS

__all__ = ["close_stage", "fill_ends", "last_end", "room_at"]

_WINDOWS = tuple(window for window, _ in PACES)

# Columns of ``Episodes.ends``.
FIXED, STEP, REST, AFTER, HOST = range(5)

# Entries of ``Episodes.trial``: bytes that are still on their way to the host where the stage
# ends, bytes that come back beside an original, and all bytes that its units move.
TRIAL_WAY, TRIAL_DOUBLED, TRIAL_MOVED = range(3)

# Entry of ``Episodes.taken`` behind those of ``Episodes.rank_bytes``.
MOST_PASSES = RANK_HOST + 1

# Entry of ``Episodes.promised`` behind the parts of a budget: the largest one for later stages of
# which the other ranks can keep theirs.
MOST_AFTER = NUM_USES


@kernel
def last_end(tables: Tables, episodes: Episodes, e: int) -> int:
    """Last unit before which the present stage may end: each later one needs a unit."""
    ints = episodes.ints[e]
    columns = tables.pipelines.shape[ints[SHAPE]]
    return int(tables.ints[ints[ROW], UNITS] - (columns[STAGES] - 1 - ints[STAGE]))


@kernel
def fill_ends(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill what does not depend on the present decision: by end, and by use of the rank."""
    ints = episodes.ints[e]
    last = last_end(tables, episodes, e)
    final = ints[STAGE] + 1 == tables.pipelines.shape[ints[SHAPE], STAGES]
    for end in range(last if final else ints[CURSOR] + 1, last + 1):
        _fill_end(tables, episodes, e, end)
    _fill_taken(tables, episodes, e)


@kernel
def _fill_end(tables: Tables, episodes: Episodes, e: int, end: int) -> None:
    ints, found = episodes.ints[e], episodes.ends[end]
    shape, stage, state, start = ints[SHAPE], ints[STAGE], ints[PLACE], ints[STAGE_START]
    columns, row = tables.pipelines.shape[shape], ints[ROW]
    found[FIXED] = device_bytes(tables, shape, state, stage, start, end)
    found[STEP] = step_bytes(tables, shape, state, start, end)
    found[REST] = tables.span[row, start, end, RESTORED] + tables.span[row, start, end, MADE]
    found[AFTER] = 0
    if stage + 1 < columns[STAGES]:
        found[AFTER] = least_budget(tables, shape, state, stage + 1, end)
    found[HOST] = host_bytes(tables, shape, state, start, end)
    if not columns[ALONE]:
        # Later stages of the rank have state of their own, no more than all units have.
        whole = host_bytes(tables, shape, state, start, tables.ints[row, UNITS])
        found[HOST] = columns[STAGES] + whole


@kernel
def _fill_taken(tables: Tables, episodes: Episodes, e: int) -> None:
    """What earlier stages of the rank take, and what part of a budget later ones are promised."""
    ints, taken = episodes.ints[e], episodes.taken
    columns = tables.pipelines.shape[ints[SHAPE]]
    rank = tables.pipelines.stage[columns[FIRST_STAGE] + ints[STAGE], RANK]
    for use in range(RANK_HOST + 1):
        taken[use] = episodes.rank_bytes[e, rank, use]
    taken[MOST_PASSES] = _most_passes(tables, episodes, e)
    episodes.promised[MOST_AFTER] = NEVER_FITS
    if columns[ALONE]:
        episodes.promised[:NUM_USES] = 0.0
        return
    for other in range(columns[STAGE_RANKS]):
        if other != rank:
            fill_promised(tables, episodes, e, other)
            after = most_after(tables, episodes, e, other)
            episodes.promised[MOST_AFTER] = min(episodes.promised[MOST_AFTER], after)
    fill_promised(tables, episodes, e, rank)


@kernel
def _most_passes(tables: Tables, episodes: Episodes, e: int) -> int:
    """Most micro-batches that are in the present stage at once."""
    ints, pipes = episodes.ints[e], tables.pipelines
    most, number = 0, pipes.stage[pipes.shape[ints[SHAPE], FIRST_STAGE] + ints[STAGE]]
    for corner in range(NUM_CORNERS):
        at = FIRST_COUNT + 2 * corner
        most = max(most, number[at] + number[at + 1])
    return int(most)


@kernel
def _waiting_bytes(episodes: Episodes, e: int, end: int) -> int:
    """Bytes of other micro-batches whose copies to the host are not waited for yet."""
    ints = episodes.ints[e]
    others = (_WINDOWS[ints[PACE]] - 1) // (end - ints[STAGE_START]) + 1
    return int(others * episodes.trial[TRIAL_WAY])


@kernel
def room_at(
    tables: Tables, episodes: Episodes, e: int, end: int, held: int, forward: int, backward: int
) -> int:
    """Bytes left if the stage ends before a unit; negative if it does not fit or later ones do not.

    Args:
        tables: of all problems.
        episodes: with ``ends``, ``taken``, ``promised`` and ``trial`` filled.
        e: the episode.
        end: first unit of the next stage.
        held: bytes of a micro-batch after its forward.
        forward: peak of the forwards of the stage's units.
        backward: peak of their backwards.
    """
    ints, found = episodes.ints[e], episodes.ends[end]
    budget, shape = ints[BUDGET], ints[SHAPE]
    room = budget - found[AFTER]
    pinned = found[HOST] + episodes.taken[RANK_HOST]
    pinned += episodes.taken[MOST_PASSES] * episodes.trial[TRIAL_MOVED]
    if room < 0 or pinned > tables.ints[ints[ROW], HOST_MEMORY]:
        return -1
    if found[AFTER] > episodes.promised[MOST_AFTER]:
        return -1
    _fill_uses(tables, episodes, e, end, held, forward, backward)
    taken, uses, promised = episodes.taken, episodes.uses, episodes.promised
    number = tables.pipelines.stage[tables.pipelines.shape[shape, FIRST_STAGE] + ints[STAGE]]
    for corner in range(number[CORNERS]):
        at = NUM_CORNERS + corner
        more = max(taken[at], uses[at], int(promised[at] * found[AFTER]))
        held_later = int(promised[corner] * found[AFTER])
        room = min(room, budget - taken[corner] - uses[corner] - held_later - more)
    held_later = int(promised[STEP_USE] * found[AFTER])
    return int(min(room, budget - taken[STEP_USE] - uses[STEP_USE] - held_later))


@kernel
def _fill_uses(
    tables: Tables, episodes: Episodes, e: int, end: int, held: int, forward: int, backward: int
) -> None:
    """Fill what the present stage takes if it ends before a unit; its row of ``ends`` is filled."""
    ints, found = episodes.ints[e], episodes.ends[end]
    sizes = (
        found[FIXED] + _waiting_bytes(episodes, e, end),
        found[STEP],
        held,
        found[REST] + episodes.trial[TRIAL_DOUBLED],
        forward,
        backward,
    )
    start, shape = ints[STAGE_START], ints[SHAPE]
    fill_uses(tables, shape, ints[STAGE], start, end, sizes, episodes.uses)


@kernel
def close_stage(tables: Tables, episodes: Episodes, e: int, end: int, held: int) -> None:
    """Note what the stage that ends before a unit takes of its rank.

    Args:
        tables: of all problems.
        episodes: to change; ``trial`` is filled.
        e: the episode.
        end: first unit of the next stage.
        held: bytes of a micro-batch after its forward.
    """
    ints, pipes = episodes.ints[e], tables.pipelines
    shape, start, state = ints[SHAPE], ints[STAGE_START], ints[PLACE]
    rank = pipes.stage[pipes.shape[shape, FIRST_STAGE] + ints[STAGE], RANK]
    known, uses = episodes.rank_bytes[e, rank], episodes.uses
    _fill_end(tables, episodes, e, end)
    uses[:] = 0
    _fill_uses(tables, episodes, e, end, held, ints[FORWARD_PEAK], ints[BACKWARD_PEAK])
    for use in range(NUM_USES):
        if NUM_CORNERS <= use < STEP_USE:
            known[use] = max(known[use], uses[use])
        else:
            known[use] += uses[use]
    pinned = host_bytes(tables, shape, state, start, end)
    known[RANK_HOST] += pinned + _most_passes(tables, episodes, e) * episodes.trial[TRIAL_MOVED]
