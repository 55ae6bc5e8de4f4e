"""Run the tasks of all ranks: the compiled counterpart of lowering's outer loop and the engine."""

from __future__ import annotations

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
)
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import LayoutArrays
from remora.simulator.compiled.run_clock import (
    COLLECTIVE_STREAM,
    COMPUTE_STREAM,
    D2H_STREAM,
    DEVICE_LEVEL,
    FLUSHED,
    FORWARDS,
    H2D_STREAM,
    HOST_LEVEL,
    HOST_PEAK,
    LAST_END,
    NOT_ASKED,
    PEAK_LEVEL,
    PENDING,
    RECV_STREAM,
    SEND_STREAM,
    SENDING,
    SENDING_END,
    SENT,
    SENT_END,
    WAIT_UNTIL,
    WAITED_FOR,
    WEIGHT_TASK,
    Step,
    clear,
    copy_stream,
    issue,
)
from remora.simulator.compiled.run_gradients import after_backward, end_leaving, new_gradients
from remora.simulator.compiled.run_state import RunState
from remora.simulator.compiled.run_step_end import end_step

__all__ = ["run_tasks"]


@kernel
def run_tasks(clock: RunState, step: Step) -> None:
    """Run a step; its figures are in the state afterwards."""
    order = step.order
    ranks = len(order.start) - 1
    clear(clock, step, ranks)
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
    end_step(clock, step, ranks)


@kernel
def _ready(clock: RunState, step: Step, task: int) -> bool:
    """Whether everything that a task receives has been made."""
    layout, kind = step.layout, step.order.kind[task]
    if kind == WEIGHT_TASK:
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
    if kind != WEIGHT_TASK:
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
    if kind == WEIGHT_TASK:
        return
    clock.ended[1 if kind > 0 else 0, number, micro_batch] = True
    for place in range(layout.outgoing_start[row], layout.outgoing_start[row + 1]):
        message = layout.outgoing[place]
        if layout.seconds[message, copy] >= 0:
            end = issue(clock, rank, SEND_STREAM, layout.seconds[message, copy], 0.0)
            clock.arrival[message, copy, micro_batch] = end
            clock.free[rank, SENDING_END] = max(clock.free[rank, SENDING_END], end)


@kernel
def _begin_task(clock: RunState, rank: int) -> None:
    """Wait for what the task before last sent, and release it."""
    level, free = clock.level, clock.free
    if level[rank, SENT] > 0:
        free[rank, WAIT_UNTIL] = max(free[rank, WAIT_UNTIL], free[rank, SENT_END])
        level[rank, DEVICE_LEVEL] -= level[rank, SENT]
    level[rank, SENT], level[rank, SENDING] = level[rank, SENDING], 0
    free[rank, SENT_END], free[rank, SENDING_END] = free[rank, SENDING_END], 0.0


@kernel
def _receive(
    clock: RunState, layout: LayoutArrays, rank: int, row: int, copy: int, micro_batch: int
) -> None:
    free = clock.free
    for message in range(layout.first_message[row], layout.first_message[row + 1]):
        if layout.seconds[message, copy] >= 0:
            arrival = clock.arrival[message, copy, micro_batch]
            free[rank, RECV_STREAM] = max(free[rank, RECV_STREAM], arrival)
            free[rank, WAIT_UNTIL] = max(free[rank, WAIT_UNTIL], free[rank, RECV_STREAM])


@kernel
def _run_other(clock: RunState, step: Step, item: int, rank: int, key: int) -> None:
    items, level, free = step.items, clock.level, clock.free
    code, slot, unit = items.ints[item, CODE], items.ints[item, SLOT], items.ints[item, UNIT]
    if code == START_FORWARD:
        level[rank, FORWARDS] += 1
        _end_pending(clock, rank, -1)
    elif code == FLUSH:
        free[rank, FLUSHED] = _end_pending(clock, rank, key)
    elif code in (STORE, LOAD):
        stream = copy_stream(step, D2H_STREAM if code == STORE else H2D_STREAM)
        after = free[rank, FLUSHED] if code == LOAD else 0.0
        clock.slot_end[slot] = issue(clock, rank, stream, items.seconds[item], after)
        level[rank, HOST_LEVEL] += items.ints[item, HOST]
        level[rank, HOST_PEAK] = max(level[rank, HOST_PEAK], level[rank, HOST_LEVEL])
    elif code in (RELEASE, WAIT_LOAD):
        free[rank, WAIT_UNTIL] = max(free[rank, WAIT_UNTIL], clock.slot_end[slot])
    elif code == CARRY:
        place = clock.level[rank, PENDING]
        clock.level[rank, PENDING] += 1
        clock.pending[rank, place, 0] = level[rank, FORWARDS] + items.ints[item, BEFORE]
        clock.pending[rank, place, 1] = items.ints[item, PEAK]
        clock.pending[rank, place, 2] = key
        clock.pending_end[rank, place] = clock.slot_end[slot]
    elif code == FETCH:
        stream = copy_stream(step, H2D_STREAM) if step.flags[4] else COLLECTIVE_STREAM
        clock.fetch_end[unit] = issue(clock, rank, stream, items.seconds[item], 0.0)
    elif code == WAIT_FETCH:
        free[rank, WAIT_UNTIL] = max(free[rank, WAIT_UNTIL], clock.fetch_end[unit])
    elif code == TAIL:
        level[rank, SENDING] += items.ints[item, BEFORE]


@kernel
def _end_pending(clock: RunState, rank: int, key: int) -> float:
    """Wait for copies that are due, or all of a micro-batch and stage; returns their end."""
    count = clock.level[rank, PENDING]
    latest = 0.0
    if count == 0:
        return latest
    pending, ends = clock.pending, clock.pending_end
    forwards, kept = clock.level[rank, FORWARDS], 0
    for place in range(count):
        over = pending[rank, place, 0] <= forwards
        if key >= 0:
            over = pending[rank, place, 2] == key
        if over:
            latest = max(latest, ends[rank, place])
            clock.level[rank, DEVICE_LEVEL] -= pending[rank, place, 1]
            continue
        for column in range(3):
            pending[rank, kept, column] = pending[rank, place, column]
        ends[rank, kept] = ends[rank, place]
        kept += 1
    clock.free[rank, WAIT_UNTIL] = max(clock.free[rank, WAIT_UNTIL], latest)
    clock.level[rank, PENDING] = kept
    return latest


@kernel
def _run_compute(
    clock: RunState, step: Step, item: int, rank: int, last: bool, backward: bool
) -> None:
    items, level, free = step.items, clock.level, clock.free
    unit = items.ints[item, UNIT]
    leaves = step.flags[1] + step.flags[2] > 0
    if leaves:
        end_leaving(clock, rank, 1)
    if step.flags[3]:
        _gather_once(clock, step, rank, unit, items.ints[item, UPCOMING])
    level[rank, DEVICE_LEVEL] += items.ints[item, BEFORE]
    whole, new = 0, 0
    if backward:
        whole, new = new_gradients(clock, step, rank, unit)
    peak = items.ints[item, PEAK] if leaves or new > 0 else items.ints[item, LATER_PEAK]
    level[rank, PEAK_LEVEL] = max(level[rank, PEAK_LEVEL], level[rank, DEVICE_LEVEL] + peak)
    stays = new
    if leaves:
        stays = -(-new // step.flags[0]) if step.flags[1] and not step.flags[2] else 0
        level[rank, DEVICE_LEVEL] += whole
    level[rank, DEVICE_LEVEL] += items.ints[item, AFTER] + stays
    level[rank, PEAK_LEVEL] = max(level[rank, PEAK_LEVEL], level[rank, DEVICE_LEVEL])
    end = max(free[rank, COMPUTE_STREAM], free[rank, WAIT_UNTIL]) + items.seconds[item]
    free[rank, COMPUTE_STREAM] = free[rank, LAST_END] = end
    free[rank, WAIT_UNTIL] = 0.0
    clock.latest[0] = max(clock.latest[0], end)
    if whole > 0:
        after_backward(clock, step, rank, unit, whole, last)


@kernel
def _gather_once(clock: RunState, step: Step, rank: int, unit: int, upcoming: int) -> None:
    for wanted in (unit, upcoming):
        if wanted < 0 or step.gather_s[wanted] < 0:
            continue
        if clock.coming[rank, wanted] == NOT_ASKED:
            end = issue(clock, rank, COLLECTIVE_STREAM, step.gather_s[wanted], 0.0)
            clock.coming[rank, wanted] = end
    if clock.coming[rank, unit] >= 0:
        clock.free[rank, WAIT_UNTIL] = max(clock.free[rank, WAIT_UNTIL], clock.coming[rank, unit])
        clock.coming[rank, unit] = WAITED_FOR
