"""Bytes that the stages of a pipeline take; compiled.

What a rank holds at its fullest moment is below the sum over its stages of what each takes by
itself (weights, gradients, optimizer state, buffers for messages, micro-batches in memory), and
what the stage that works takes on top. Every term is an upper bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import STATES
from remora.envs.arrays import Tables
from remora.envs.columns import (
    BATCH,
    BUFFERS,
    COPIED,
    CORNERS,
    EIGHT_BIT,
    FIRST_COUNT,
    FIRST_STAGE,
    GRADIENTS,
    HALVES,
    LARGEST,
    MADE,
    ON_CUDA,
    OPTIMIZER,
    PASSES,
    RANK,
    RECEIVED,
    REPLICAS,
    RETURNED,
    RETURNED_ONCE,
    SENT,
    SHAPE_ROW,
    STAGES,
    TEMPORARIES,
    TIED_EIGHT_BIT,
    TIED_GRADIENTS,
    TIED_OPTIMIZER,
    TIED_WEIGHTS,
    UNIT_GRADIENTS,
    UNIT_WEIGHTS,
    UNITS,
    WEIGHTS,
    WHOLE,
)
from remora.envs.jit import kernel
from remora.envs.stage_orders import NUM_CORNERS
from remora.schedule.schedule import Placement

__all__ = ["NUM_USES", "STEP_USE", "device_bytes", "fill_uses", "host_bytes", "step_bytes"]

Ints = NDArray[np.int64]

STEP_USE = 2 * NUM_CORNERS
"""Place of what a stage takes during the optimizer's step."""

NUM_USES = STEP_USE + 1
"""Entries that say what a stage takes of its rank."""

_ON_HOST = tuple(int(state.optimizer is Placement.HOST) for state in STATES)
_IN_8_BITS = tuple(int(state.optimizer is Placement.EIGHT_BIT) for state in STATES)
_GRADIENTS_ON_HOST = tuple(int(state.gradients is Placement.HOST) for state in STATES)
_ZERO = tuple(state.zero_stage for state in STATES)


@kernel
def _shard(num_bytes: int, parts: int) -> int:
    return int(-(-num_bytes // parts))


@kernel
def _is_folded_back(tables: Tables, shape: int, start: int, end: int) -> bool:
    """Whether a stage is the last one and its rank holds the first one, too.

    What the first and the last unit share is then there once, and counted with the first stage.
    """
    pipes = tables.pipelines
    columns = pipes.shape[shape]
    first, stages = columns[FIRST_STAGE], columns[STAGES]
    whole = tables.ints[columns[SHAPE_ROW], UNITS]
    if start == 0 or end < whole:
        return False
    return bool(pipes.stage[first, RANK] == pipes.stage[first + stages - 1, RANK])


@kernel
def _state_bytes(tables: Tables, shape: int, state: int, start: int, end: int) -> int:
    """Weights, buffers, gradients and optimizer state of a stage on the device."""
    pipes = tables.pipelines
    row, replicas = pipes.shape[shape, SHAPE_ROW], pipes.shape[shape, REPLICAS]
    span = tables.span[row, start, end]
    weights, gradients = span[WEIGHTS], span[GRADIENTS]
    own = span[EIGHT_BIT] if _IN_8_BITS[state] else span[OPTIMIZER]
    if _is_folded_back(tables, shape, start, end):
        tied = tables.ints[row]
        weights, gradients = weights - tied[TIED_WEIGHTS], gradients - tied[TIED_GRADIENTS]
        own -= tied[TIED_EIGHT_BIT] if _IN_8_BITS[state] else tied[TIED_OPTIMIZER]
    zero, leaves = _ZERO[state], _GRADIENTS_ON_HOST[state] or _ZERO[state] >= 2
    total = span[BUFFERS] + (weights if zero < 3 else 0)
    if zero >= 2:
        total += _shard(weights, replicas)
    if zero == 3:
        # Those of the unit that runs and of the next one are there whole.
        total += 2 * span[UNIT_WEIGHTS]
    if not _ON_HOST[state]:
        total += _shard(own, replicas if zero >= 1 else 1)
    if not leaves:
        return int(total + gradients)
    # Whole gradients of one unit are on their way while those of the next are made.
    total += 2 * span[UNIT_GRADIENTS]
    if not _GRADIENTS_ON_HOST[state]:
        total += _shard(gradients, replicas) + end - start
    return int(total)


@kernel
def step_bytes(tables: Tables, shape: int, state: int, start: int, end: int) -> int:
    """What the optimizer step of a stage takes beside its state."""
    pipes = tables.pipelines
    row, replicas = pipes.shape[shape, SHAPE_ROW], pipes.shape[shape, REPLICAS]
    temporaries = tables.ints[row, TEMPORARIES]
    if _ON_HOST[state] or temporaries == 0:
        return 0
    span = tables.span[row, start, end]
    shards = replicas if _ZERO[state] >= 1 else 1
    if tables.ints[row, ON_CUDA]:
        return _shard(span[GRADIENTS], shards)
    return int(temporaries * _shard(span[LARGEST], shards))


@kernel
def host_bytes(tables: Tables, shape: int, state: int, start: int, end: int) -> int:
    """Pinned bytes of a stage's state."""
    if not _ON_HOST[state]:
        return 0
    pipes = tables.pipelines
    row, replicas = pipes.shape[shape, SHAPE_ROW], pipes.shape[shape, REPLICAS]
    span = tables.span[row, start, end]
    shards = replicas if _ZERO[state] >= 1 else 1
    arriving = replicas if _ZERO[state] >= 2 else 1
    if not _GRADIENTS_ON_HOST[state]:
        arriving = shards
    copied, gradients = _shard(span[COPIED], shards), _shard(span[GRADIENTS], arriving)
    return int(copied + gradients + _shard(span[OPTIMIZER], shards))


@kernel
def device_bytes(tables: Tables, shape: int, state: int, stage: int, start: int, end: int) -> int:
    """What a stage takes for the whole step: state, batch, and buffers for messages.

    A gradient comes back from every stage that reads an activation: from no more than there are.
    """
    columns = tables.pipelines.shape[shape]
    span = tables.span[columns[SHAPE_ROW], start, end]
    later = columns[STAGES] - 1 - stage
    returned = min(span[RETURNED], later * span[RETURNED_ONCE])
    buffers = columns[PASSES] * (span[BATCH] + span[RECEIVED] + returned)
    return int(_state_bytes(tables, shape, state, start, end) + buffers + span[SENT])


@kernel
def fill_uses(
    tables: Tables,
    shape: int,
    stage: int,
    start: int,
    end: int,
    sizes: tuple[int, int, int, int, int, int],
    uses: Ints,
) -> None:
    """Work out what a stage takes of its rank.

    At each corner of the rank's order it takes some bytes, and some more if it is the stage that
    works: one of its micro-batches is then at its peak. Less held never takes more in sum.

    Args:
        tables: of all problems.
        shape: of the pipeline.
        stage: number.
        start: its first unit.
        end: the first unit behind it.
        sizes: bytes for the whole step, during the optimizer's step beside that, of a micro-batch
            after its forward, of one between the halves of its backward, and the peaks of forward
            and backward of a micro-batch.
        uses: to fill: by corner, then what comes on top by corner, then during the optimizer's
            step.  # [NUM_USES]
    """
    fixed, step, held, restored, forward, backward = sizes
    columns = tables.pipelines.shape[shape]
    span = tables.span[columns[SHAPE_ROW], start, end]
    restored = max(held, restored)
    highest = max(held, forward)
    if columns[WHOLE]:
        # What later stages read is there until the end of the backward.
        highest = max(highest, backward + span[MADE])
    number = tables.pipelines.stage[columns[FIRST_STAGE] + stage]
    for corner in range(number[CORNERS]):
        holding = number[FIRST_COUNT + 2 * corner]
        restoring = number[FIRST_COUNT + 2 * corner + 1]
        more = 0
        if holding > 0:
            more = highest - held
        if restoring > 0:
            more = max(more, span[HALVES], highest - restored)
        uses[corner] = fixed + holding * held + restoring * restored
        uses[NUM_CORNERS + corner] = more
    uses[STEP_USE] = fixed + step
