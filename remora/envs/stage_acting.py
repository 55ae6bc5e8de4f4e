"""What a decision about a unit changes in an episode with a pipeline; compiled."""

from __future__ import annotations

from remora.envs.actions import UnitDecision
from remora.envs.arrays import (
    BACKWARD_PEAK,
    BASE,
    CURSOR,
    FIRST_END,
    FORWARD_PEAK,
    HELD,
    HELD_BACK,
    LASTING,
    ON_HOST,
    ON_THE_WAY,
    ROW,
    STAGE,
    STAGE_DOUBLED,
    STAGE_LOAD_S,
    STAGE_S,
    STAGE_START,
    STAGE_STORE_S,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    BACKWARD,
    DONE_S,
    DOUBLED,
    FORWARD,
    GROUP_FORWARD,
    LOAD_RATE,
    NESTED,
    PLAIN,
    STORE_RATE,
)
from remora.envs.holding import group_start, touched_before
from remora.envs.jit import kernel
from remora.envs.seconds import group_s
from remora.envs.stage_ends import TRIAL_DOUBLED, TRIAL_MOVED, TRIAL_WAY, close_stage

__all__ = ["end_stage", "note_group", "note_option", "note_unit"]

_NESTED, _OFFLOADED = int(UnitDecision.CLOSE_NESTED), int(UnitDecision.CLOSE_OFFLOADED)


@kernel
def note_unit(tables: Tables, episodes: Episodes, e: int) -> None:
    """Count the forward and backward of the cursor's unit."""
    ints, done = episodes.ints[e], tables.again_s[episodes.ints[e, ROW], :, DONE_S]
    episodes.reals[e, STAGE_S] += done[ints[CURSOR] + 1] - done[ints[CURSOR]]


@kernel
def note_option(tables: Tables, episodes: Episodes, e: int, option: int) -> None:
    """Count what a menu entry takes; it is held already, the bytes held are those before."""
    ints, reals = episodes.ints[e], episodes.reals[e]
    sizes = tables.option[ints[ROW], ints[CURSOR], option]
    seconds = tables.option_s[ints[ROW], ints[CURSOR], option]
    backward = ints[HELD_BACK] + touched_before(tables, episodes, e) + sizes[BACKWARD]
    ints[FORWARD_PEAK] = max(ints[FORWARD_PEAK], ints[BASE] + sizes[FORWARD])
    ints[BACKWARD_PEAK] = max(ints[BACKWARD_PEAK], backward)
    ints[STAGE_DOUBLED] += sizes[DOUBLED]
    reals[STAGE_S] += seconds[0]
    reals[STAGE_STORE_S] += seconds[1]
    reals[STAGE_LOAD_S] += seconds[2]


@kernel
def note_group(
    tables: Tables, episodes: Episodes, e: int, action: int, inputs: int, moved: int
) -> None:
    """Count what a group takes.

    Args:
        tables: of all problems.
        episodes: with the group still open.
        e: the episode.
        action: that closes it.
        inputs: bytes that it holds and nobody held before.
        moved: bytes that it sends to the host.
    """
    ints, reals = episodes.ints[e], episodes.reals[e]
    row, start, end = ints[ROW], group_start(episodes, e), ints[CURSOR] + 1
    nested = action == _NESTED
    again = tables.span[row, start, end, NESTED] if nested else tables.span[row, start, end, PLAIN]
    forward = ints[BASE] + tables.span[row, start, end, GROUP_FORWARD]
    ints[FORWARD_PEAK] = max(ints[FORWARD_PEAK], forward)
    ints[BACKWARD_PEAK] = max(ints[BACKWARD_PEAK], ints[HELD_BACK] + inputs + moved + again)
    ints[STAGE_DOUBLED] += moved
    reals[STAGE_S] += group_s(tables, row, start, end, nested)
    reals[STAGE_STORE_S] += moved / tables.reals[row, STORE_RATE]
    reals[STAGE_LOAD_S] += moved / tables.reals[row, LOAD_RATE]


@kernel
def end_stage(tables: Tables, episodes: Episodes, e: int) -> None:
    """Close the stage before the cursor and begin the next one with nothing in memory."""
    ints, reals = episodes.ints[e], episodes.reals[e]
    episodes.trial[TRIAL_WAY] = ints[ON_THE_WAY] + episodes.leaving[e, ints[CURSOR] - 1]
    episodes.trial[TRIAL_DOUBLED] = ints[STAGE_DOUBLED]
    episodes.trial[TRIAL_MOVED] = ints[ON_HOST]
    close_stage(tables, episodes, e, ints[CURSOR], ints[LASTING])
    known = episodes.stage_s[e, ints[STAGE]]
    known[0], known[1], known[2] = reals[STAGE_S], reals[STAGE_STORE_S], reals[STAGE_LOAD_S]
    if ints[STAGE] == 0:
        ints[FIRST_END] = ints[CURSOR]
    ints[STAGE] += 1
    ints[STAGE_START] = ints[CURSOR]
    for column in (HELD, ON_THE_WAY, ON_HOST, BASE, LASTING, HELD_BACK):
        ints[column] = 0
    for column in (FORWARD_PEAK, BACKWARD_PEAK, STAGE_DOUBLED):
        ints[column] = 0
    for column in (STAGE_S, STAGE_STORE_S, STAGE_LOAD_S):
        reals[column] = 0.0
    episodes.leaving[e, ints[CURSOR] :] = 0
