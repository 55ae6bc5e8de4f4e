"""The smallest budget with which what is left of a model fits the stages that are left; compiled.

Stages that share a rank share its memory. Each gets a part of the budget in proportion to what it
takes in a reference plan (balanced cuts, least memory), so that whether later stages fit is known
stage by stage, and does not depend on what earlier ones left over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.envs.arrays import Tables
from remora.envs.columns import (
    ALONE,
    CORNERS,
    FIRST_LEAST,
    FIRST_SHARE,
    FIRST_SLOT,
    FIRST_STAGE,
    MADE,
    NUM_WAY_COLUMNS,
    RANK,
    RESTORED,
    SHAPE_ROW,
    STAGES,
    UNITS,
    WAY_BACKWARD,
    WAY_FORWARD,
    WAY_HELD,
)
from remora.envs.jit import kernel
from remora.envs.segments import NEVER_FITS
from remora.envs.stage_bytes import (
    NUM_USES,
    STEP_USE,
    device_bytes,
    fill_uses,
    step_bytes,
)
from remora.envs.stage_completions import NUM_WAYS
from remora.envs.stage_orders import NUM_CORNERS

__all__ = ["fill_least_budgets", "least_budget"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDED_UP = 1 + 1e-9

_LEAST_MORE = 64
"""What comes on top where a stage works gets at least such a part of the rest."""


@kernel
def least_budget(tables: Tables, shape: int, state: int, stage: int, start: int) -> int:
    """Smallest budget with which the stages from one on hold the units from ``start`` on."""
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    units = tables.ints[columns[SHAPE_ROW], UNITS]
    slot = pipes.shape[shape, FIRST_SLOT + state] * (columns[STAGES] + 1) + stage
    return int(pipes.least[columns[FIRST_LEAST] + slot * (units + 1) + start])


@kernel
def fill_least_budgets(tables: Tables, shape: int, state: int, cuts: Ints, takes: Ints) -> None:
    """Fill ``shares`` and ``least`` of a shape and a place of the state.

    Args:
        tables: to fill.
        shape: of the pipeline.
        state: its place.
        cuts: first unit of every stage, and the number of units: the reference.  # [S + 1]
        takes: scratch.  # [S + 1][NUM_USES]
    """
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    stages, units = columns[STAGES], tables.ints[columns[SHAPE_ROW], UNITS]
    if not columns[ALONE]:
        _fill_shares(tables, shape, state, cuts, takes)
    first = columns[FIRST_LEAST] + pipes.shape[shape, FIRST_SLOT + state] * (stages + 1) * (
        units + 1
    )
    least, uses = pipes.least[first : first + (stages + 1) * (units + 1)], takes[stages]
    least[:] = NEVER_FITS
    least[stages * (units + 1) + units] = 0
    for stage in range(stages - 1, -1, -1):
        guess = 0
        for start in range(stage, units - (stages - 1 - stage) if stage > 0 else 1):
            if stage + 1 == stages:
                best = _need(tables, shape, state, stage, start, units, NEVER_FITS, uses)
            else:
                behind = least[(stage + 1) * (units + 1) : (stage + 2) * (units + 1)]
                last = units - (stages - 2 - stage)
                best, guess = _best_end(
                    tables, shape, state, stage, start, last, guess, behind, uses
                )
            least[stage * (units + 1) + start] = best


@kernel
def _best_end(
    tables: Tables,
    shape: int,
    state: int,
    stage: int,
    start: int,
    last: int,
    guess: int,
    behind: Ints,
    uses: Ints,
) -> tuple[int, int]:
    """Smallest budget for a stage from a unit on and all behind it, and where that stage ends.

    Ends are below ``last``; those behind one need ``behind`` of it  # [n + 1]. With a good guess,
    which is tried first, most other ends are out at once.
    """
    guess = max(guess, start + 1)
    best, chosen = NEVER_FITS, guess
    for place in range(start, last):
        end = guess if place == start else place
        if (place == guess and place > start) or behind[end] >= best:
            continue
        need = max(_need(tables, shape, state, stage, start, end, best, uses), behind[end])
        if need < best:
            best, chosen = need, end
    return int(best), int(chosen)


@kernel
def _fill_shares(tables: Tables, shape: int, state: int, cuts: Ints, takes: Ints) -> None:
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    stages, first = columns[STAGES], columns[FIRST_STAGE]
    for stage in range(stages):
        _take_least(tables, shape, state, stage, cuts[stage], cuts[stage + 1], takes)
    shares = columns[FIRST_SHARE] + pipes.shape[shape, FIRST_SLOT + state] * stages
    for stage in range(stages):
        found = pipes.shares[shares + stage]
        rank = pipes.stage[first + stage, RANK]
        for corner in range(pipes.stage[first + stage, CORNERS]):
            total = _total(tables, shape, rank, takes, corner)
            more = total // _LEAST_MORE + 1
            for other in range(stages):
                if pipes.stage[first + other, RANK] == rank:
                    more = max(more, takes[other, NUM_CORNERS + corner])
            found[corner] = takes[stage, corner] / (total + more)
            found[NUM_CORNERS + corner] = more / (total + more)
        whole = _total(tables, shape, rank, takes, STEP_USE)
        found[STEP_USE] = takes[stage, STEP_USE] / whole


@kernel
def _total(tables: Tables, shape: int, rank: int, takes: Ints, use: int) -> int:
    """What all stages of a rank take together."""
    pipes = tables.pipelines
    total, first = 0, pipes.shape[shape, FIRST_STAGE]
    for stage in range(pipes.shape[shape, STAGES]):
        if pipes.stage[first + stage, RANK] == rank:
            total += takes[stage, use]
    return int(total)


@kernel
def _take_least(
    tables: Tables, shape: int, state: int, stage: int, start: int, end: int, takes: Ints
) -> None:
    """What the way of least memory through a stage takes of its rank."""
    found, best = takes[len(takes) - 1], NEVER_FITS
    for number in range(NUM_WAYS):
        most = _fill_by(tables, shape, state, stage, start, end, number, found)
        if most < best:
            best = most
            for use in range(NUM_USES):
                takes[stage, use] = max(1, found[use])


@kernel
def _fill_by(
    tables: Tables,
    shape: int,
    state: int,
    stage: int,
    start: int,
    end: int,
    number: int,
    uses: Ints,
) -> int:
    """Fill what a way through a stage takes; returns what it takes at most if it is alone."""
    pipes = tables.pipelines
    span = tables.span[pipes.shape[shape, SHAPE_ROW], start, end]
    at = number * NUM_WAY_COLUMNS
    if span[at + WAY_FORWARD] >= NEVER_FITS:
        return NEVER_FITS
    sizes = (
        device_bytes(tables, shape, state, stage, start, end),
        step_bytes(tables, shape, state, start, end),
        span[at + WAY_HELD],
        span[RESTORED] + span[MADE],
        span[at + WAY_FORWARD],
        span[at + WAY_BACKWARD],
    )
    fill_uses(tables, shape, stage, start, end, sizes, uses)
    most = uses[STEP_USE]
    for corner in range(pipes.stage[pipes.shape[shape, FIRST_STAGE] + stage, CORNERS]):
        most = max(most, uses[corner] + uses[NUM_CORNERS + corner])
    return int(most)


@kernel
def _need(
    tables: Tables,
    shape: int,
    state: int,
    stage: int,
    start: int,
    end: int,
    limit: int,
    uses: Ints,
) -> int:
    """Smallest budget with which a stage holds units; anything from ``limit`` on if that is more.

    A stage that has its rank alone may take all of it.
    """
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    if device_bytes(tables, shape, state, stage, start, end) >= limit:
        return limit
    place = pipes.shape[shape, FIRST_SLOT + state] * columns[STAGES] + stage
    shares, least = pipes.shares[columns[FIRST_SHARE] + place], NEVER_FITS
    for number in range(NUM_WAYS):
        need = _fill_by(tables, shape, state, stage, start, end, number, uses)
        if not columns[ALONE] and need < least:
            need = 0
            for use in range(NUM_USES):
                corner = use if use < NUM_CORNERS else use - NUM_CORNERS
                if use == STEP_USE or corner < pipes.stage[columns[FIRST_STAGE] + stage, CORNERS]:
                    need = max(need, int((uses[use] + 1) / shares[use] * _ROUNDED_UP) + 1)
        least = min(least, need)
    return int(least)
