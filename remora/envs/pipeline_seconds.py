"""Seconds of the stages of a pipeline, and the bound on the step time that they make; compiled."""

from __future__ import annotations

from remora.envs.actions import STATES
from remora.envs.arrays import (
    BOUND,
    CURSOR,
    FIRST_END,
    PLACE,
    ROW,
    SHAPE,
    STAGE,
    STAGE_LOAD_S,
    STAGE_S,
    STAGE_STORE_S,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    DEVICE_STEP_S,
    DONE_S,
    FAMILY,
    FIRST_STAGE,
    FLOOR_S,
    FOLDED,
    GRADIENTS,
    MICRO_BATCHES,
    NUM_RANKS,
    ONE_STAGE_EACH,
    PASSES,
    RANK,
    REPLICAS,
    STAGE_RANKS,
    STAGES,
    UNITS,
)
from remora.envs.jit import kernel
from remora.schedule.schedule import Placement

__all__ = ["fill_pipeline_bound", "left_s", "stage_share"]

_ROUNDED_DOWN = 1 - 1e-9
_ON_HOST = tuple(int(state.optimizer is Placement.HOST) for state in STATES)
_ZERO = tuple(state.zero_stage for state in STATES)


@kernel
def left_s(tables: Tables, episodes: Episodes, e: int) -> float:
    """Seconds of one micro-batch in the units from the cursor on, everything kept."""
    row = episodes.ints[e, ROW]
    done = tables.again_s[row, :, DONE_S]
    return float(done[tables.ints[row, UNITS]] - done[episodes.ints[e, CURSOR]])


@kernel
def stage_share(tables: Tables, episodes: Episodes, e: int, more_s: float) -> float:
    """Seconds of the present stage with the cursor's unit against an equal part of what is left.

    Args:
        tables: of all problems.
        episodes: where they stand.
        e: the episode.
        more_s: what a decision about the unit adds.
    """
    ints = episodes.ints[e]
    done, cursor = tables.again_s[ints[ROW], :, DONE_S], ints[CURSOR]
    so_far = episodes.reals[e, STAGE_S]
    with_unit = so_far + done[cursor + 1] - done[cursor] + more_s
    stages = tables.pipelines.shape[ints[SHAPE], STAGES] - ints[STAGE]
    whole = so_far + left_s(tables, episodes, e)
    return float(with_unit * stages / whole) if whole > 0 else 0.0


@kernel
def fill_pipeline_bound(tables: Tables, episodes: Episodes, e: int) -> None:
    """A step is at least as long as its slowest rank, or the average one; it never gets shorter.

    Where a rank has one stage, or interleaved ones, the first micro-batch has to pass the stages
    before its first one, and the last has to come back through them.
    """
    ints, reals, pipes = episodes.ints[e], episodes.reals[e], tables.pipelines
    columns = pipes.shape[ints[SHAPE]]
    stages, stage, family = columns[STAGES], ints[STAGE], columns[FAMILY]
    decided = 0.0
    for number in range(stage):
        decided += episodes.stage_s[e, number, 0]
    left = reals[STAGE_S] + left_s(tables, episodes, e)
    step_s = 0.0 if family == FOLDED else _first_step_s(tables, episodes, e)
    times = tables.ints[ints[ROW], MICRO_BATCHES]
    highest = times * (decided + left) / columns[NUM_RANKS]
    if family == ONE_STAGE_EACH:
        highest = max(highest, decided + times * left / max(1, stages - stage) + step_s)
    first = columns[FIRST_STAGE]
    for rank in range(columns[STAGE_RANKS]):
        busy, store, load, before = 0.0, 0.0, 0.0, 0.0
        for number in range(min(stage + 1, stages)):
            now = number == stage
            seconds = reals[STAGE_S] if now else episodes.stage_s[e, number, 0]
            if pipes.stage[first + number, RANK] == rank:
                busy += seconds
                store += reals[STAGE_STORE_S] if now else episodes.stage_s[e, number, 1]
                load += reals[STAGE_LOAD_S] if now else episodes.stage_s[e, number, 2]
            elif number < rank and family != FOLDED:
                before += seconds
        busy_s = columns[PASSES] * busy + before + step_s
        highest = max(highest, busy_s, columns[PASSES] * max(store, load))
    floor = pipes.shape_s[ints[SHAPE], FLOOR_S]
    reals[BOUND] = max(reals[BOUND], _ROUNDED_DOWN * max(highest, floor))


@kernel
def _first_step_s(tables: Tables, episodes: Episodes, e: int) -> float:
    """Seconds of the optimizer step of the first stage's weights, if its end is known."""
    ints, pipes = episodes.ints[e], tables.pipelines
    row, state = ints[ROW], ints[PLACE]
    units, end = tables.ints[row, UNITS], ints[FIRST_END]
    if pipes.shape[ints[SHAPE], STAGES] == 1:
        end = units
    whole = tables.span[row, 0, units, GRADIENTS]
    if end == 0 or whole == 0:
        return 0.0
    shards = pipes.shape[ints[SHAPE], REPLICAS] if _ZERO[state] >= 1 else 1
    share = tables.span[row, 0, end, GRADIENTS] / whole
    return float(tables.reals[row, DEVICE_STEP_S + _ON_HOST[state]] * share / shards)
