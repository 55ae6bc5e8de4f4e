"""The smallest budget with which what is left of a model fits the stages that are left; compiled.

Stages that share a rank share its memory. Each gets a part of the budget in proportion to what it
takes in a reference plan (balanced cuts, least memory), so that whether later stages fit is known
stage by stage, and does not depend on what earlier ones left over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from remora.envs.joint.arrays import Tables
from remora.envs.joint.columns import (
    ALONE,
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
from remora.envs.joint.jit import kernel
from remora.envs.joint.segments import NEVER_FITS
from remora.envs.joint.stage_bytes import (
    active_bytes,
    corner_bytes,
    device_bytes,
    step_bytes,
)
from remora.envs.joint.stage_completions import NUM_WAYS
from remora.envs.joint.stage_orders import NUM_CORNERS

__all__ = ["fill_least_budgets", "least_budget"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDED_UP = 1 + 1e-9


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
        takes: scratch.  # [S][corners + 1]
    """
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    stages, units = columns[STAGES], tables.ints[columns[SHAPE_ROW], UNITS]
    if not columns[ALONE]:
        _fill_shares(tables, shape, state, cuts, takes)
    first = columns[FIRST_LEAST] + pipes.shape[shape, FIRST_SLOT + state] * (stages + 1) * (
        units + 1
    )
    least = pipes.least[first : first + (stages + 1) * (units + 1)]
    least[:] = NEVER_FITS
    least[stages * (units + 1) + units] = 0
    for stage in range(stages - 1, -1, -1):
        for start in range(stage, units - (stages - 1 - stage) if stage > 0 else 1):
            if stage + 1 == stages:
                best: Any = _need(tables, shape, state, stage, start, units, NEVER_FITS)
            else:
                best = np.int64(NEVER_FITS)
                for end in range(start + 1, units - (stages - 2 - stage)):
                    after = least[(stage + 1) * (units + 1) + end]
                    if after >= best:
                        continue
                    need = _need(tables, shape, state, stage, start, end, best)
                    best = min(best, max(need, after))
            least[stage * (units + 1) + start] = best


@kernel
def _fill_shares(tables: Tables, shape: int, state: int, cuts: Ints, takes: Ints) -> None:
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    stages, first = columns[STAGES], columns[FIRST_STAGE]
    for stage in range(stages):
        _take_least(tables, shape, state, stage, cuts[stage], cuts[stage + 1], takes[stage])
    shares = columns[FIRST_SHARE] + pipes.shape[shape, FIRST_SLOT + state] * stages
    for stage in range(stages):
        active, most = np.int64(1), np.int64(1)
        for corner in range(NUM_CORNERS):
            total = np.int64(0)
            for other in range(stages):
                if pipes.stage[first + other, RANK] == pipes.stage[first + stage, RANK]:
                    active = max(active, takes[other, NUM_CORNERS])
                    total += takes[other, corner]
            most = max(most, total)
            pipes.shares[shares + stage, corner] = takes[stage, corner] / max(total, 1)
        part = active / (active + most)
        for corner in range(NUM_CORNERS):
            pipes.shares[shares + stage, corner] *= 1 - part
        pipes.shares[shares + stage, NUM_CORNERS] = part


@kernel
def _take_least(
    tables: Tables, shape: int, state: int, stage: int, start: int, end: int, takes: Ints
) -> None:
    """What the way of least memory through a stage takes at every corner, and when it works."""
    row = tables.pipelines.shape[shape, SHAPE_ROW]
    fixed = device_bytes(tables, shape, state, stage, start, end)
    step = step_bytes(tables, shape, state, start, end)
    exports = tables.span[row, start, end, MADE]
    restored = tables.span[row, start, end, RESTORED] + exports
    best: Any = np.int64(NEVER_FITS)
    for number in range(NUM_WAYS):
        span, at = tables.span[row, start, end], number * NUM_WAY_COLUMNS
        held, forward = span[at + WAY_HELD], span[at + WAY_FORWARD]
        active = active_bytes(tables, shape, start, end, held, forward, span[at + WAY_BACKWARD])
        most: Any = np.int64(0)
        for corner in range(NUM_CORNERS):
            inside = corner_bytes(tables, shape, stage, corner, held, restored)
            most = max(most, fixed + max(step, inside))
        if most + active < best:
            best = most + active
            for corner in range(NUM_CORNERS):
                inside = corner_bytes(tables, shape, stage, corner, held, restored)
                takes[corner] = max(1, fixed + max(step, inside))
            takes[NUM_CORNERS] = active


@kernel
def _need(
    tables: Tables, shape: int, state: int, stage: int, start: int, end: int, limit: int
) -> int:
    """Smallest budget with which a stage holds units; anything from ``limit`` on if that is more.

    A stage that has its rank alone may take all of it.
    """
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    fixed = device_bytes(tables, shape, state, stage, start, end)
    if fixed >= limit:
        return limit
    row, alone = columns[SHAPE_ROW], columns[ALONE]
    step = step_bytes(tables, shape, state, start, end)
    restored = tables.span[row, start, end, RESTORED] + tables.span[row, start, end, MADE]
    shares = pipes.shares[
        columns[FIRST_SHARE] + pipes.shape[shape, FIRST_SLOT + state] * columns[STAGES] + stage
    ]
    least = np.int64(NEVER_FITS)
    for number in range(NUM_WAYS):
        span, at = tables.span[row, start, end], number * NUM_WAY_COLUMNS
        held, forward = span[at + WAY_HELD], span[at + WAY_FORWARD]
        if forward >= NEVER_FITS:
            continue
        active = active_bytes(tables, shape, start, end, held, forward, span[at + WAY_BACKWARD])
        need: Any = np.int64(0)
        for corner in range(NUM_CORNERS):
            inside = corner_bytes(tables, shape, stage, corner, held, restored)
            take = fixed + max(step, inside)
            if alone:
                need = max(need, take + active)
            else:
                need = max(need, np.int64((take + 1) / shares[corner] * _ROUNDED_UP) + 1)
        if not alone:
            need = max(need, np.int64((active + 1) / shares[NUM_CORNERS] * _ROUNDED_UP) + 1)
        least = min(least, need)
    return int(least)
