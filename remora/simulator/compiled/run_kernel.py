"""Run the tasks of all ranks: the compiled counterpart of lowering's outer loop and the engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.columns import (
    AFTER,
    BEFORE,
    CODE,
    HOST,
    LATER_PEAK,
    PEAK,
    SLOT,
    UNIT,
    UPCOMING,
)
from remora.simulator.compiled.items import (
    BACKWARD,
    CARRY,
    COMPUTE,
    FETCH,
    FLUSH,
    LOAD,
    RELEASE,
    START_FORWARD,
    STORE,
    TAIL,
    WAIT_FETCH,
    WAIT_LOAD,
    Items,
)
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import (
    GROUPS,
    HOST_BYTES,
    RESIDENT,
    TEMPORARY,
    LayoutArrays,
)
from remora.simulator.compiled.link_kernel import (
    COUNTED,
    D2H_RATE,
    HOST_LATENCY,
    HardwareArrays,
    gather_s,
)
from remora.simulator.compiled.run_state import RunState

__all__ = ["HOST_PEAK", "PEAK_LEVEL", "OrderArrays", "Step", "run_tasks"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Columns of ``RunState.free``: when each stream is free, and times of its compute stream.
_COMPUTE, _D2H, _H2D, _SEND, _RECV, _COLLECTIVE = 0, 1, 2, 3, 4, 5
_WAIT, _LAST, _OPTIMIZER, _SHARED, _SENT_END, _SENDING_END = 6, 7, 8, 9, 10, 11
_FLUSHED = 12
# Columns of ``RunState.level``.
_LEVEL, PEAK_LEVEL, _HOST, HOST_PEAK, _SENT, _SENDING, _FORWARDS, _PENDING = 0, 1, 2, 3, 4, 5, 6, 7
# Entries of ``RunState.coming`` that are no times.
_NOT_ASKED, _WAITED_FOR = -1.0, -2.0
_WEIGHT_TASK = 3


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
def run_tasks(clock: RunState, step: Step) -> None:
    """Run a step; its figures are in the state afterwards."""
    order = step.order
    ranks = len(order.start) - 1
    _clear(clock, step, ranks)
    left, upwards = len(order.kind), True
    while left > 0:
        for turn in range(ranks):
            rank = turn if upwards else ranks - 1 - turn
            place = clock.place[rank]
            while place < order.start[rank + 1] and _ready(clock, step, place):
                _run_task(clock, step, rank, place)
                place += 1
                left -= 1
            clock.place[rank] = place
        upwards = not upwards
    _end_step(clock, step, ranks)


@kernel
def _clear(clock: RunState, step: Step, ranks: int) -> None:
    layout = step.layout
    clock.latest[0] = 0.0
    for rank in range(ranks):
        for column in range(12):
            clock.free[rank, column] = 0.0
        for column in range(8):
            clock.level[rank, column] = 0
        clock.level[rank, _LEVEL] = layout.rank_bytes[rank, RESIDENT]
        clock.level[rank, _HOST] = layout.rank_bytes[rank, HOST_BYTES]
        clock.level[rank, HOST_PEAK] = layout.rank_bytes[rank, HOST_BYTES]
        for place in range(3):
            clock.leaving[rank, place, 0] = 0
        for static in range(clock.made.shape[1]):
            clock.made[rank, static] = False
            clock.unfinished[rank, static] = 0
        for unit in range(clock.coming.shape[1]):
            clock.coming[rank, unit] = _NOT_ASKED
        clock.place[rank] = step.order.start[rank]
    if step.flags[0] > 1:
        _count_unfinished(clock, step)
    _clear_tasks(clock)


@kernel
def _clear_tasks(clock: RunState) -> None:
    for direction in range(2):
        for stage in range(clock.ended.shape[1]):
            for micro_batch in range(clock.ended.shape[2]):
                clock.ended[direction, stage, micro_batch] = False


@kernel
def _count_unfinished(clock: RunState, step: Step) -> None:
    """Count the stages of a rank that add to each gradient."""
    layout, stages = step.layout, len(step.where)
    for unit in range(len(layout.stage_of)):
        for place in range(layout.owner_start[unit], layout.owner_start[unit + 1]):
            for number in range(layout.stage_of[unit], len(step.stage_rank), stages):
                clock.unfinished[step.stage_rank[number], layout.owner[place]] += 1


@kernel
def _ready(clock: RunState, step: Step, task: int) -> bool:
    """Whether everything that a task receives has been made."""
    layout, kind = step.layout, step.order.kind[task]
    if kind == _WEIGHT_TASK:
        return True
    stages, number = len(step.where), step.order.stage[task]
    stage, first = number % stages, number - number % stages
    direction = 1 if kind > 0 else 0
    row = direction * stages + stage
    for message in range(layout.first_message[row], layout.first_message[row + 1]):
        source = layout.messages[message, 1] + first
        if not clock.ended[direction, source, step.order.micro_batch[task]]:
            return False
    return True


@kernel
def _run_task(clock: RunState, step: Step, rank: int, task: int) -> None:
    order, layout = step.order, step.layout
    kind, number, micro_batch = order.kind[task], order.stage[task], order.micro_batch[task]
    stages = len(step.where)
    stage, copy = number % stages, number // stages
    _begin_task(clock, rank)
    row = (stages if kind > 0 else 0) + stage
    if kind != _WEIGHT_TASK:
        _receive(clock, layout, rank, row, copy, micro_batch)
    key = number * order.micro_batches[0] + micro_batch
    last = order.last[number] == micro_batch
    for item in range(step.where[stage, kind, 0], step.where[stage, kind, 1]):
        code = step.items.ints[item, CODE]
        if code == COMPUTE:
            _run_compute(clock, step, item, rank, last, False)
        elif code == BACKWARD:
            _run_compute(clock, step, item, rank, last, True)
        else:
            _run_other(clock, step, item, rank, key)
    if kind == _WEIGHT_TASK:
        return
    clock.ended[1 if kind > 0 else 0, number, micro_batch] = True
    for place in range(layout.outgoing_start[row], layout.outgoing_start[row + 1]):
        message = layout.outgoing[place]
        if layout.seconds[message, copy] >= 0:
            end = _issue(clock, rank, _SEND, layout.seconds[message, copy], 0.0)
            clock.arrival[message, copy, micro_batch] = end
            clock.free[rank, _SENDING_END] = max(clock.free[rank, _SENDING_END], end)


@kernel
def _begin_task(clock: RunState, rank: int) -> None:
    """Wait for what the task before last sent, and release it."""
    level, free = clock.level, clock.free
    if level[rank, _SENT] > 0:
        free[rank, _WAIT] = max(free[rank, _WAIT], free[rank, _SENT_END])
        level[rank, _LEVEL] -= level[rank, _SENT]
    level[rank, _SENT], level[rank, _SENDING] = level[rank, _SENDING], 0
    free[rank, _SENT_END], free[rank, _SENDING_END] = free[rank, _SENDING_END], 0.0


@kernel
def _receive(
    clock: RunState, layout: LayoutArrays, rank: int, row: int, copy: int, micro_batch: int
) -> None:
    free = clock.free
    for message in range(layout.first_message[row], layout.first_message[row + 1]):
        if layout.seconds[message, copy] >= 0:
            arrival = clock.arrival[message, copy, micro_batch]
            free[rank, _RECV] = max(free[rank, _RECV], arrival)
            free[rank, _WAIT] = max(free[rank, _WAIT], free[rank, _RECV])


@kernel
def _issue(clock: RunState, rank: int, stream: int, seconds: float, after: float) -> float:
    """Work of another stream, after everything computed so far; returns its end."""
    end = max(clock.free[rank, stream], clock.free[rank, _LAST], after) + seconds
    clock.free[rank, stream] = end
    clock.latest[0] = max(clock.latest[0], end)
    return float(end)


@kernel
def _copy_stream(step: Step, stream: int) -> int:
    return stream if step.flags[5] else _COMPUTE


@kernel
def _run_other(clock: RunState, step: Step, item: int, rank: int, key: int) -> None:
    items, level, free = step.items, clock.level, clock.free
    code, slot, unit = items.ints[item, CODE], items.ints[item, SLOT], items.ints[item, UNIT]
    if code == START_FORWARD:
        level[rank, _FORWARDS] += 1
        _end_pending(clock, rank, -1)
    elif code == FLUSH:
        free[rank, _FLUSHED] = _end_pending(clock, rank, key)
    elif code in (STORE, LOAD):
        stream = _copy_stream(step, _D2H if code == STORE else _H2D)
        after = free[rank, _FLUSHED] if code == LOAD else 0.0
        clock.slot_end[slot] = _issue(clock, rank, stream, items.seconds[item], after)
        level[rank, _HOST] += items.ints[item, HOST]
        level[rank, HOST_PEAK] = max(level[rank, HOST_PEAK], level[rank, _HOST])
    elif code in (RELEASE, WAIT_LOAD):
        free[rank, _WAIT] = max(free[rank, _WAIT], clock.slot_end[slot])
    elif code == CARRY:
        place = clock.level[rank, _PENDING]
        clock.level[rank, _PENDING] += 1
        clock.pending[rank, place, 0] = level[rank, _FORWARDS] + items.ints[item, BEFORE]
        clock.pending[rank, place, 1] = items.ints[item, PEAK]
        clock.pending[rank, place, 2] = key
        clock.pending_end[rank, place] = clock.slot_end[slot]
    elif code == FETCH:
        stream = _copy_stream(step, _H2D) if step.flags[4] else _COLLECTIVE
        clock.fetch_end[unit] = _issue(clock, rank, stream, items.seconds[item], 0.0)
    elif code == WAIT_FETCH:
        free[rank, _WAIT] = max(free[rank, _WAIT], clock.fetch_end[unit])
    elif code == TAIL:
        level[rank, _SENDING] += items.ints[item, BEFORE]


@kernel
def _end_pending(clock: RunState, rank: int, key: int) -> float:
    """Wait for copies that are due, or all of a micro-batch and stage; returns their end."""
    count = clock.level[rank, _PENDING]
    latest = 0.0
    if count == 0:
        return latest
    pending, ends = clock.pending, clock.pending_end
    forwards, kept = clock.level[rank, _FORWARDS], 0
    for place in range(count):
        over = pending[rank, place, 0] <= forwards
        if key >= 0:
            over = pending[rank, place, 2] == key
        if over:
            latest = max(latest, ends[rank, place])
            clock.level[rank, _LEVEL] -= pending[rank, place, 1]
            continue
        for column in range(3):
            pending[rank, kept, column] = pending[rank, place, column]
        ends[rank, kept] = ends[rank, place]
        kept += 1
    clock.free[rank, _WAIT] = max(clock.free[rank, _WAIT], latest)
    clock.level[rank, _PENDING] = kept
    return latest


@kernel
def _run_compute(
    clock: RunState, step: Step, item: int, rank: int, last: bool, backward: bool
) -> None:
    items, level, free = step.items, clock.level, clock.free
    unit = items.ints[item, UNIT]
    leaves = step.flags[1] + step.flags[2] > 0
    if leaves:
        _end_leaving(clock, rank, 1)
    if step.flags[3]:
        _gather_once(clock, step, rank, unit, items.ints[item, UPCOMING])
    level[rank, _LEVEL] += items.ints[item, BEFORE]
    whole, new = 0, 0
    if backward:
        whole, new = _new_gradients(clock, step, rank, unit)
    peak = items.ints[item, PEAK] if leaves or new > 0 else items.ints[item, LATER_PEAK]
    level[rank, PEAK_LEVEL] = max(level[rank, PEAK_LEVEL], level[rank, _LEVEL] + peak)
    stays = new
    if leaves:
        stays = -(-new // step.flags[0]) if step.flags[1] and not step.flags[2] else 0
        level[rank, _LEVEL] += whole
    level[rank, _LEVEL] += items.ints[item, AFTER] + stays
    level[rank, PEAK_LEVEL] = max(level[rank, PEAK_LEVEL], level[rank, _LEVEL])
    end = max(free[rank, _COMPUTE], free[rank, _WAIT]) + items.seconds[item]
    free[rank, _COMPUTE] = free[rank, _LAST] = end
    free[rank, _WAIT] = 0.0
    clock.latest[0] = max(clock.latest[0], end)
    if whole > 0:
        _after_backward(clock, step, rank, unit, whole, last)


@kernel
def _new_gradients(clock: RunState, step: Step, rank: int, unit: int) -> tuple[int, int]:
    """Bytes of all gradients that a backward makes, and of those not made before."""
    layout, gradient = step.layout, step.gradient
    whole, new = 0, 0
    for place in range(layout.owner_start[unit], layout.owner_start[unit + 1]):
        static = layout.owner[place]
        whole += gradient[static]
        if not clock.made[rank, static]:
            clock.made[rank, static] = True
            new += gradient[static]
    return whole, new


@kernel
def _after_backward(
    clock: RunState, step: Step, rank: int, unit: int, whole: int, last: bool
) -> None:
    """Reduce or move the gradients that a backward has made."""
    replicas, sharded, to_host = step.flags[0], step.flags[1], step.flags[2]
    if sharded or to_host:
        _move_out(clock, step, rank, whole)
    elif last and replicas > 1:
        size = _complete_bytes(clock, step, rank, unit)
        if size > 0:
            seconds = 2 * gather_s(step.hardware, rank, size)
            end = _issue(clock, rank, _COLLECTIVE, seconds, 0.0)
            clock.free[rank, _OPTIMIZER] = max(clock.free[rank, _OPTIMIZER], end)


@kernel
def _complete_bytes(clock: RunState, step: Step, rank: int, unit: int) -> int:
    """Gradients that no other stage of the rank adds to any more."""
    layout, size = step.layout, 0
    for place in range(layout.owner_start[unit], layout.owner_start[unit + 1]):
        static = layout.owner[place]
        clock.unfinished[rank, static] -= 1
        if clock.unfinished[rank, static] == 0:
            size += step.gradient[static]
    return int(size)


@kernel
def _move_out(clock: RunState, step: Step, rank: int, whole: int) -> None:
    """Sum whole gradients over the replicas and move them out."""
    replicas, sharded, to_host = step.flags[0], step.flags[1], step.flags[2]
    rates, end = step.hardware.rates, 0.0
    if replicas > 1:
        seconds = gather_s(step.hardware, rank, whole)
        end = _issue(clock, rank, _COLLECTIVE, seconds if sharded else 2 * seconds, 0.0)
    if to_host:
        moved = -(-whole // replicas) if sharded else whole
        seconds = 1 * rates[HOST_LATENCY] + moved / rates[D2H_RATE]
        end = _issue(clock, rank, _copy_stream(step, _D2H), seconds, end)
    place = 0
    while clock.leaving[rank, place, 0] > 0:
        place += 1
    clock.leaving[rank, place, 0] = whole
    clock.leaving[rank, place, 1] = 0
    clock.leaving_end[rank, place] = end
    clock.free[rank, _OPTIMIZER] = max(clock.free[rank, _OPTIMIZER], end)


@kernel
def _end_leaving(clock: RunState, rank: int, age: int) -> None:
    """Wait for gradients that have had some compute instructions to leave."""
    leaving = clock.leaving
    for place in range(3):
        if leaving[rank, place, 0] == 0:
            continue
        if leaving[rank, place, 1] >= age:
            end = clock.leaving_end[rank, place]
            clock.free[rank, _WAIT] = max(clock.free[rank, _WAIT], end)
            clock.level[rank, _LEVEL] -= leaving[rank, place, 0]
            leaving[rank, place, 0] = 0
        else:
            leaving[rank, place, 1] += 1


@kernel
def _gather_once(clock: RunState, step: Step, rank: int, unit: int, upcoming: int) -> None:
    for wanted in (unit, upcoming):
        if wanted < 0 or step.gather_s[wanted] < 0:
            continue
        if clock.coming[rank, wanted] == _NOT_ASKED:
            end = _issue(clock, rank, _COLLECTIVE, step.gather_s[wanted], 0.0)
            clock.coming[rank, wanted] = end
    if clock.coming[rank, unit] >= 0:
        clock.free[rank, _WAIT] = max(clock.free[rank, _WAIT], clock.coming[rank, unit])
        clock.coming[rank, unit] = _WAITED_FOR


@kernel
def _end_step(clock: RunState, step: Step, ranks: int) -> None:
    """Sum shared gradients, step, and move what the step has to move."""
    layout, level, free = step.layout, clock.level, clock.free
    for rank in range(ranks):
        _end_leaving(clock, rank, 0)
    _sum_shared(clock, layout)
    if not step.hardware.sizes[COUNTED]:
        return
    for rank in range(ranks):
        reduced = max(free[rank, _OPTIMIZER], free[rank, _SHARED])
        after = max(reduced, free[rank, _WAIT])
        if level[rank, _SENT] > 0:
            after = max(after, free[rank, _SENT_END])
        if level[rank, _SENDING] > 0:
            after = max(after, free[rank, _SENDING_END])
        if layout.step[rank, 1] > 0:
            stream = _copy_stream(step, _D2H)
            after = max(after, _issue(clock, rank, stream, layout.step[rank, 1], reduced))
        peak = level[rank, _LEVEL] + layout.rank_bytes[rank, TEMPORARY]
        level[rank, PEAK_LEVEL] = max(level[rank, PEAK_LEVEL], peak)
        end = max(free[rank, _COMPUTE], after) + layout.step[rank, 0]
        free[rank, _COMPUTE] = free[rank, _LAST] = end
        clock.latest[0] = max(clock.latest[0], end)
        loaded = 0.0
        if layout.step[rank, 2] > 0:
            stream = _copy_stream(step, _H2D)
            loaded = _issue(clock, rank, stream, layout.step[rank, 2], 0.0)
        if layout.step[rank, 3] > 0:
            _issue(clock, rank, _COLLECTIVE, layout.step[rank, 3], loaded)


@kernel
def _sum_shared(clock: RunState, layout: LayoutArrays) -> None:
    """Sum the gradients that several ranks hold."""
    free = clock.free
    for group in range(layout.counts[GROUPS]):
        first = layout.group[group, 3]
        end = first + layout.group[group, 2]
        after = 0.0
        for place in range(first, end):
            rank = layout.members[place]
            after = max(after, free[rank, _LAST], free[rank, _OPTIMIZER], free[rank, _SHARED])
        for place in range(first, end):
            rank = layout.members[place]
            done = _issue(clock, rank, _COLLECTIVE, layout.group_seconds[group], after)
            free[rank, _SHARED] = max(free[rank, _SHARED], done)
