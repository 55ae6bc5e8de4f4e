"""Where the present stage of an episode may end, and what that leaves; compiled."""

from __future__ import annotations

from remora.envs.joint.actions import PACES
from remora.envs.joint.arrays import (
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
from remora.envs.joint.columns import (
    ALONE,
    FIRST_COUNT,
    FIRST_SHARE,
    FIRST_SLOT,
    FIRST_STAGE,
    HOST_MEMORY,
    MADE,
    RANK,
    RESTORED,
    STAGES,
    UNITS,
)
from remora.envs.joint.jit import kernel
from remora.envs.joint.least_budgets import least_budget
from remora.envs.joint.stage_bytes import (
    active_bytes,
    corner_bytes,
    device_bytes,
    host_bytes,
    step_bytes,
)
from remora.envs.joint.stage_orders import NUM_CORNERS

__all__ = ["close_stage", "fill_ends", "last_end", "room_at"]

_WINDOWS = tuple(window for window, _ in PACES)

# Columns of ``Episodes.ends``.
FIXED, STEP, REST, AFTER, HOST = range(5)

# Entries of ``Episodes.trial``: bytes that are still on their way to the host where the stage
# ends, bytes that come back beside an original, and all bytes that its units move.
TRIAL_WAY, TRIAL_DOUBLED, TRIAL_MOVED = range(3)

# Entry of ``Episodes.taken`` behind those of ``Episodes.rank_bytes``.
MOST_PASSES = NUM_CORNERS + 2


@kernel
def last_end(tables: Tables, episodes: Episodes, e: int) -> int:
    """Last unit before which the present stage may end: each later one needs a unit."""
    ints = episodes.ints[e]
    columns = tables.pipelines.shape[ints[SHAPE]]
    return int(tables.ints[ints[ROW], UNITS] - (columns[STAGES] - 1 - ints[STAGE]))


@kernel
def fill_ends(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill what does not depend on the present decision: by end, and by corner of the rank."""
    ints, pipes = episodes.ints[e], tables.pipelines
    shape, stage, state, start = ints[SHAPE], ints[STAGE], ints[PLACE], ints[STAGE_START]
    columns = pipes.shape[shape]
    row, stages = ints[ROW], columns[STAGES]
    last = last_end(tables, episodes, e)
    first = ints[CURSOR] + 1 if stage + 1 < stages else last
    for end in range(first, last + 1):
        found = episodes.ends[end]
        found[FIXED] = device_bytes(tables, shape, state, stage, start, end)
        found[STEP] = step_bytes(tables, shape, state, start, end)
        exports = tables.span[row, start, end, MADE]
        found[REST] = tables.span[row, start, end, RESTORED] + exports
        found[AFTER] = 0
        if stage + 1 < stages:
            found[AFTER] = least_budget(tables, shape, state, stage + 1, end)
        found[HOST] = host_bytes(tables, shape, state, start, end)
        if not columns[ALONE]:
            # Later stages of the rank have state of their own, no more than all units have.
            units = tables.ints[row, UNITS]
            found[HOST] = stages + host_bytes(tables, shape, state, start, units)
    _fill_taken(tables, episodes, e)


@kernel
def _fill_taken(tables: Tables, episodes: Episodes, e: int) -> None:
    """What earlier stages of the rank take, and what later ones are promised."""
    ints, pipes, taken = episodes.ints[e], tables.pipelines, episodes.taken
    shape, stage = ints[SHAPE], ints[STAGE]
    columns = pipes.shape[shape]
    first, stages = columns[FIRST_STAGE], columns[STAGES]
    rank = pipes.stage[first + stage, RANK]
    for corner in range(NUM_CORNERS + 2):
        taken[corner] = episodes.rank_bytes[e, rank, corner]
    taken[MOST_PASSES] = _most_passes(tables, episodes, e)
    if columns[ALONE]:
        return
    shares = columns[FIRST_SHARE] + pipes.shape[shape, FIRST_SLOT + ints[PLACE]] * stages
    for later in range(stage + 1, stages):
        if pipes.stage[first + later, RANK] != rank:
            continue
        for corner in range(NUM_CORNERS):
            taken[corner] += int(pipes.shares[shares + later, corner] * ints[BUDGET])
        part = int(pipes.shares[shares + later, NUM_CORNERS] * ints[BUDGET])
        taken[NUM_CORNERS] = max(taken[NUM_CORNERS], part)


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
        episodes: with ``ends``, ``taken`` and ``trial`` filled.
        e: the episode.
        end: first unit of the next stage.
        held: bytes of a micro-batch after its forward.
        forward: peak of the forwards of the stage's units.
        backward: the same of their backwards.
    """
    ints, found = episodes.ints[e], episodes.ends[end]
    budget, shape, start = ints[BUDGET], ints[SHAPE], ints[STAGE_START]
    room = budget - found[AFTER]
    pinned = found[HOST] + episodes.taken[RANK_HOST]
    pinned += episodes.taken[MOST_PASSES] * episodes.trial[TRIAL_MOVED]
    if room < 0 or pinned > tables.ints[ints[ROW], HOST_MEMORY]:
        return -1
    active = active_bytes(tables, shape, start, end, held, forward, backward)
    fixed = found[FIXED] + max(active, episodes.taken[NUM_CORNERS])
    fixed += _waiting_bytes(episodes, e, end)
    restored = found[REST] + episodes.trial[TRIAL_DOUBLED]
    for corner in range(NUM_CORNERS):
        inside = corner_bytes(tables, shape, ints[STAGE], corner, held, restored)
        taken = episodes.taken[corner] + fixed + max(found[STEP], inside)
        room = min(room, budget - taken)
    return int(room)


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
    shape, stage, state = ints[SHAPE], ints[STAGE], ints[PLACE]
    start, row = ints[STAGE_START], ints[ROW]
    rank = pipes.stage[pipes.shape[shape, FIRST_STAGE] + stage, RANK]
    known = episodes.rank_bytes[e, rank]
    fixed = device_bytes(tables, shape, state, stage, start, end)
    fixed += _waiting_bytes(episodes, e, end)
    step = step_bytes(tables, shape, state, start, end)
    restored = tables.span[row, start, end, RESTORED] + tables.span[row, start, end, MADE]
    restored += episodes.trial[TRIAL_DOUBLED]
    for corner in range(NUM_CORNERS):
        inside = corner_bytes(tables, shape, stage, corner, held, restored)
        known[corner] += fixed + max(step, inside)
    forward, backward = ints[FORWARD_PEAK], ints[BACKWARD_PEAK]
    active = active_bytes(tables, shape, start, end, held, forward, backward)
    known[NUM_CORNERS] = max(known[NUM_CORNERS], active)
    pinned = host_bytes(tables, shape, state, start, end)
    pinned += _most_passes(tables, episodes, e) * episodes.trial[TRIAL_MOVED]
    episodes.rank_bytes[e, rank, RANK_HOST] += pinned
