"""What later stages of a rank are sure to find of its memory; compiled."""

from __future__ import annotations

from remora.envs.arrays import BUDGET, PLACE, SHAPE, STAGE, Episodes, Tables
from remora.envs.columns import CORNERS, FIRST_SHARE, FIRST_SLOT, FIRST_STAGE, RANK, STAGES
from remora.envs.jit import kernel
from remora.envs.segments import NEVER_FITS
from remora.envs.stage_bytes import NUM_USES, STEP_USE
from remora.envs.stage_orders import NUM_CORNERS

__all__ = ["fill_promised", "most_after"]

# Least budgets are rounded up by twice as much, so that no rounding here breaks a promise.
_ROUNDED_UP = 1 + 5e-10


@kernel
def fill_promised(tables: Tables, episodes: Episodes, e: int, rank: int) -> None:
    """Parts of a budget that the stages of a rank behind the present one take at most.

    That budget is the least with which all of those stages fit, not the whole one: what they do
    not need is there for the present one.
    """
    ints, pipes, promised = episodes.ints[e], tables.pipelines, episodes.promised
    columns = pipes.shape[ints[SHAPE]]
    first, stages = columns[FIRST_STAGE], columns[STAGES]
    shares = columns[FIRST_SHARE] + columns[FIRST_SLOT + ints[PLACE]] * stages
    promised[:NUM_USES] = 0.0
    for later in range(ints[STAGE] + 1, stages):
        if pipes.stage[first + later, RANK] != rank:
            continue
        for use in range(NUM_USES):
            share = pipes.shares[shares + later, use]
            if NUM_CORNERS <= use < STEP_USE:
                promised[use] = max(promised[use], share)
            else:
                promised[use] += share


@kernel
def most_after(tables: Tables, episodes: Episodes, e: int, rank: int) -> float:
    """Largest budget of which another rank can keep its promises beside what it holds already."""
    ints, promised = episodes.ints[e], episodes.promised
    budget, known = float(ints[BUDGET]), episodes.rank_bytes[e, rank]
    most = float(NEVER_FITS)
    if promised[STEP_USE] == 0.0:
        return most
    for corner in range(_corners_of(tables, ints[SHAPE], rank)):
        left, more = budget - known[corner], promised[NUM_CORNERS + corner]
        most = min(most, (left - known[NUM_CORNERS + corner]) / promised[corner])
        most = min(most, left / (promised[corner] + more))
    most = min(most, (budget - known[STEP_USE]) / promised[STEP_USE])
    return float(most * _ROUNDED_UP)


@kernel
def _corners_of(tables: Tables, shape: int, rank: int) -> int:
    pipes = tables.pipelines
    columns, corners = pipes.shape[shape], 0
    for stage in range(columns[FIRST_STAGE], columns[FIRST_STAGE] + columns[STAGES]):
        if pipes.stage[stage, RANK] == rank:
            corners = pipes.stage[stage, CORNERS]
    return int(corners)
