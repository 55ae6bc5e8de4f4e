"""The end of a step: shared gradients are summed, weights are stepped and moved."""

from __future__ import annotations

from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import GROUPS, TEMPORARY, LayoutArrays
from remora.simulator.compiled.link_kernel import COUNTED
from remora.simulator.compiled.run_clock import (
    COLLECTIVE_STREAM,
    COMPUTE_STREAM,
    D2H_STREAM,
    DEVICE_LEVEL,
    H2D_STREAM,
    LAST_END,
    OPTIMIZER_WAIT,
    PEAK_LEVEL,
    SENDING,
    SENDING_END,
    SENT,
    SENT_END,
    SHARED_END,
    WAIT_UNTIL,
    Step,
    copy_stream,
    issue,
)
from remora.simulator.compiled.run_gradients import end_leaving
from remora.simulator.compiled.run_state import RunState

__all__ = ["end_step"]


@kernel
def end_step(clock: RunState, step: Step, ranks: int) -> None:
    """Sum shared gradients, step, and move what the step has to move."""
    layout, level, free = step.layout, clock.level, clock.free
    for rank in range(ranks):
        end_leaving(clock, rank, 0)
    _sum_shared(clock, layout)
    if not step.hardware.sizes[COUNTED]:
        return
    for rank in range(ranks):
        reduced = max(free[rank, OPTIMIZER_WAIT], free[rank, SHARED_END])
        after = max(reduced, free[rank, WAIT_UNTIL])
        if level[rank, SENT] > 0:
            after = max(after, free[rank, SENT_END])
        if level[rank, SENDING] > 0:
            after = max(after, free[rank, SENDING_END])
        if layout.step[rank, 1] > 0:
            stream = copy_stream(step, D2H_STREAM)
            after = max(after, issue(clock, rank, stream, layout.step[rank, 1], reduced))
        peak = level[rank, DEVICE_LEVEL] + layout.rank_bytes[rank, TEMPORARY]
        level[rank, PEAK_LEVEL] = max(level[rank, PEAK_LEVEL], peak)
        end = max(free[rank, COMPUTE_STREAM], after) + layout.step[rank, 0]
        free[rank, COMPUTE_STREAM] = free[rank, LAST_END] = end
        clock.latest[0] = max(clock.latest[0], end)
        loaded = 0.0
        if layout.step[rank, 2] > 0:
            stream = copy_stream(step, H2D_STREAM)
            loaded = issue(clock, rank, stream, layout.step[rank, 2], 0.0)
        if layout.step[rank, 3] > 0:
            issue(clock, rank, COLLECTIVE_STREAM, layout.step[rank, 3], loaded)


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
            after = max(
                after, free[rank, LAST_END], free[rank, OPTIMIZER_WAIT], free[rank, SHARED_END]
            )
        for place in range(first, end):
            rank = layout.members[place]
            done = issue(clock, rank, COLLECTIVE_STREAM, layout.group_seconds[group], after)
            free[rank, SHARED_END] = max(free[rank, SHARED_END], done)
