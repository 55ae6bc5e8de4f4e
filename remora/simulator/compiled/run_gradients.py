"""Gradients of weights on one rank, after every backward of a unit."""

from __future__ import annotations

from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.link_kernel import D2H_RATE, HOST_LATENCY, gather_s
from remora.simulator.compiled.run_clock import (
    COLLECTIVE_STREAM,
    D2H_STREAM,
    DEVICE_LEVEL,
    OPTIMIZER_WAIT,
    WAIT_UNTIL,
    Step,
    copy_stream,
    issue,
)
from remora.simulator.compiled.run_state import RunState

__all__ = ["after_backward", "end_leaving", "new_gradients"]


@kernel
def new_gradients(clock: RunState, step: Step, rank: int, unit: int) -> tuple[int, int]:
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
def after_backward(
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
            end = issue(clock, rank, COLLECTIVE_STREAM, seconds, 0.0)
            clock.free[rank, OPTIMIZER_WAIT] = max(clock.free[rank, OPTIMIZER_WAIT], end)


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
        end = issue(clock, rank, COLLECTIVE_STREAM, seconds if sharded else 2 * seconds, 0.0)
    if to_host:
        moved = -(-whole // replicas) if sharded else whole
        seconds = 1 * rates[HOST_LATENCY] + moved / rates[D2H_RATE]
        end = issue(clock, rank, copy_stream(step, D2H_STREAM), seconds, end)
    place = 0
    while clock.leaving[rank, place, 0] > 0:
        place += 1
    clock.leaving[rank, place, 0] = whole
    clock.leaving[rank, place, 1] = 0
    clock.leaving_end[rank, place] = end
    clock.free[rank, OPTIMIZER_WAIT] = max(clock.free[rank, OPTIMIZER_WAIT], end)


@kernel
def end_leaving(clock: RunState, rank: int, age: int) -> None:
    """Wait for gradients that have had some compute instructions to leave."""
    leaving = clock.leaving
    for place in range(3):
        if leaving[rank, place, 0] == 0:
            continue
        if leaving[rank, place, 1] >= age:
            end = clock.leaving_end[rank, place]
            clock.free[rank, WAIT_UNTIL] = max(clock.free[rank, WAIT_UNTIL], end)
            clock.level[rank, DEVICE_LEVEL] -= leaving[rank, place, 0]
            leaving[rank, place, 0] = 0
        else:
            leaving[rank, place, 1] += 1
