"""Lower all stages to items: the compiled counterpart of :mod:`remora.schedule.stage_run`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.items import Items
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.live import Live, copy_live, reset
from remora.simulator.compiled.lower_backward import lower_backward
from remora.simulator.compiled.lower_forward import end_pass, lower_forward
from remora.simulator.compiled.lower_halves import lower_weights
from remora.simulator.compiled.work import Work

__all__ = ["lower_stages"]

Ints = NDArray[np.int64]

_FORWARD, _BACKWARD, _INPUTS, _WEIGHTS = 0, 1, 2, 3


@kernel
def lower_stages(
    items: Items, live: Live, apart: Live, work: Work, where: Ints, spans: Ints, parts: Ints
) -> None:
    """Lower every stage of a plan.

    Args:
        items: to fill, large enough.
        live: memory of the walk; overwritten.
        apart: a second one, for backwards that come in halves.
        work: the plan; its task is filled stage by stage.
        where: to fill: where the items of the forward, the backward and its two halves begin and
            end.  # [stages][4][2]
        spans: first unit, end, window and distance of every stage.  # [stages][4]
        parts: 1 if the backward comes in halves too, 1 if there is none.  # [2]
    """
    task = work.task
    items.state[0] = 0
    for region in range(len(work.regions.region)):
        task.store_of[region] = -1
    for unit in range(len(task.present)):
        task.present[unit] = 0
    for stage in range(len(spans)):
        for field in range(4):
            task.span[field] = spans[stage, field]
        for store in range(len(task.store_bytes)):
            task.store_bytes[store, 2] = 0
        items.state[1] = 0
        reset(live)
        where[stage, _FORWARD, 0] = items.state[0]
        work.fetches.ahead[0] = spans[stage, 3] - 1 if parts[1] else 0
        lower_forward(items, live, work)
        if parts[1]:
            end_pass(items, live, work)
        where[stage, _FORWARD, 1] = where[stage, _INPUTS, 0] = items.state[0]
        if parts[1]:
            continue
        if parts[0]:
            copy_live(live, apart)
            lower_backward(items, apart, work, True)
            where[stage, _INPUTS, 1] = where[stage, _WEIGHTS, 0] = items.state[0]
            lower_weights(items, apart, work)
            where[stage, _WEIGHTS, 1] = items.state[0]
        where[stage, _BACKWARD, 0] = items.state[0]
        lower_backward(items, live, work, False)
        where[stage, _BACKWARD, 1] = items.state[0]
