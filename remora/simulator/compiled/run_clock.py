"""The clocks of all ranks, and what a lowered plan is run from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.items import Items
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import HOST_BYTES, RESIDENT, LayoutArrays
from remora.simulator.compiled.link_kernel import HardwareArrays
from remora.simulator.compiled.run_state import RunState

__all__ = [
    "COLLECTIVE_STREAM",
    "COMPUTE_STREAM",
    "D2H_STREAM",
    "DEVICE_LEVEL",
    "FLUSHED",
    "FORWARDS",
    "H2D_STREAM",
    "HOST_LEVEL",
    "HOST_PEAK",
    "LAST_END",
    "NOT_ASKED",
    "OPTIMIZER_WAIT",
    "PEAK_LEVEL",
    "PENDING",
    "RECV_STREAM",
    "SENDING",
    "SENDING_END",
    "SEND_STREAM",
    "SENT",
    "SENT_END",
    "SHARED_END",
    "WAITED_FOR",
    "WAIT_UNTIL",
    "WEIGHT_TASK",
    "OrderArrays",
    "Step",
    "clear",
    "copy_stream",
    "issue",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Columns of ``RunState.free``: when each stream is free, and times of its compute stream.
COMPUTE_STREAM, D2H_STREAM, H2D_STREAM, SEND_STREAM, RECV_STREAM, COLLECTIVE_STREAM = (
    0,
    1,
    2,
    3,
    4,
    5,
)
WAIT_UNTIL, LAST_END, OPTIMIZER_WAIT, SHARED_END, SENT_END, SENDING_END = 6, 7, 8, 9, 10, 11
FLUSHED = 12
# Columns of ``RunState.level``.
DEVICE_LEVEL, PEAK_LEVEL, HOST_LEVEL, HOST_PEAK, SENT, SENDING, FORWARDS, PENDING = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
)
# Entries of ``RunState.coming`` that are no times.
NOT_ASKED, WAITED_FOR = -1.0, -2.0
WEIGHT_TASK = 3


class OrderArrays(NamedTuple):
    """Tasks of all ranks; see :class:`remora.schedule.orders.Order`.

    Attributes:
        kind, stage, micro_batch: of every task.  # [tasks]
        start: first task of every rank.  # [ranks + 1]
        last: micro-batch of the last backward of every stage.  # [all stages]
        micro_batches: of one step.  # [1]
    """

    kind: NDArray[np.int8]
    stage: NDArray[np.int32]
    micro_batch: NDArray[np.int32]
    start: Ints
    last: Ints
    micro_batches: Ints


class Step(NamedTuple):
    """A lowered plan.

    Attributes:
        items, where: from :func:`lower_stages`.
        layout: of the plan.
        gradient: bytes of the gradient of every static.  # [statics]
        hardware: links and optimizer.
        order: of the tasks.
        flags: replicas, 1 if gradients are sharded, 1 if they go to the host, 1 if weights are
            gathered once, 1 if weights come from the host, 1 if copies overlap.  # [6]
        gather_s: seconds of gathering a unit's weights once; negative if there is none.  # [n]
        stage_rank: rank of every stage of every copy.  # [all stages]
    """

    items: Items
    where: Ints
    layout: LayoutArrays
    gradient: Ints
    hardware: HardwareArrays
    order: OrderArrays
    flags: Ints
    gather_s: Floats
    stage_rank: Ints


@kernel
def issue(clock: RunState, rank: int, stream: int, seconds: float, after: float) -> float:
    """Work of another stream, after everything computed so far; returns its end."""
    end = max(clock.free[rank, stream], clock.free[rank, LAST_END], after) + seconds
    clock.free[rank, stream] = end
    clock.latest[0] = max(clock.latest[0], end)
    return float(end)


@kernel
def copy_stream(step: Step, stream: int) -> int:
    """The stream of a host copy: its own, or that of the computation where copies run in line."""
    return stream if step.flags[5] else COMPUTE_STREAM


@kernel
def clear(clock: RunState, step: Step, ranks: int) -> None:
    """Go back to the start of a step."""
    layout = step.layout
    clock.latest[0] = 0.0
    for rank in range(ranks):
        for column in range(12):
            clock.free[rank, column] = 0.0
        for column in range(8):
            clock.level[rank, column] = 0
        clock.level[rank, DEVICE_LEVEL] = layout.rank_bytes[rank, RESIDENT]
        clock.level[rank, HOST_LEVEL] = layout.rank_bytes[rank, HOST_BYTES]
        clock.level[rank, HOST_PEAK] = layout.rank_bytes[rank, HOST_BYTES]
        for place in range(3):
            clock.leaving[rank, place, 0] = 0
        for static in range(clock.made.shape[1]):
            clock.made[rank, static] = False
            clock.unfinished[rank, static] = 0
        for unit in range(clock.coming.shape[1]):
            clock.coming[rank, unit] = NOT_ASKED
        clock.place[rank] = step.order.start[rank]
    if step.flags[0] > 1:
        _count_unfinished(clock, step)
    _clear_tasks(clock)


@kernel
def _count_unfinished(clock: RunState, step: Step) -> None:
    """Count the stages of a rank that add to each gradient."""
    layout, stages = step.layout, len(step.where)
    for unit in range(len(layout.stage_of)):
        for place in range(layout.owner_start[unit], layout.owner_start[unit + 1]):
            for number in range(layout.stage_of[unit], len(step.stage_rank), stages):
                clock.unfinished[step.stage_rank[number], layout.owner[place]] += 1


@kernel
def _clear_tasks(clock: RunState) -> None:
    for direction in range(2):
        for stage in range(clock.ended.shape[1]):
            for micro_batch in range(clock.ended.shape[2]):
                clock.ended[direction, stage, micro_batch] = False
