"""State of all ranks while a step runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from remora.simulator.compiled.scratch import Size

__all__ = ["RunState", "new_run_state"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class RunState(NamedTuple):
    """See :mod:`remora.simulator.compiled.run_clock` for the columns.

    Attributes:
        free: when each stream of a rank is free, what its next compute instruction waits for, the
            end of its last one, what its optimizer waits for, when it has the gradients it shares,
            the ends of the messages of the task before last and of the last, and when the copies
            to the host that its backward began with had ended.  # [ranks][13]
        latest: end of everything so far.  # [1]
        level: device bytes, their peak, host bytes, their peak, bytes sent by the task before
            last and by the last, forwards so far, copies that are waited for later.  # [ranks][8]
        pending: due, bytes and key of those copies.  # [ranks][places][3]
        pending_end: when they end.  # [ranks][places]
        leaving: bytes and age of gradients on their way out; 0 bytes for a free place.
            # [ranks][3][2]
        leaving_end: when they are gone.  # [ranks][3]
        made: gradients that exist.  # [ranks][statics]
        unfinished: stages of a rank that still add to a gradient.  # [ranks][statics]
        coming: when weights that are gathered once arrive; -1 before they are asked for, -2 once
            they were waited for.  # [ranks][n]
        slot_end: end of the host copies of the running task.  # [slots]
        fetch_end: end of the weight copies of the running task.  # [n]
        arrival: when a message has arrived.  # [messages][copies][m]
        ended: forwards and backwards that have run.  # [2][all stages][m]
        place: next task of every rank.  # [ranks]
    """

    free: Floats
    latest: Floats
    level: Ints
    pending: Ints
    pending_end: Floats
    leaving: Ints
    leaving_end: Floats
    made: NDArray[np.bool_]
    unfinished: Ints
    coming: Floats
    slot_end: Floats
    fetch_end: Floats
    arrival: Floats
    ended: NDArray[np.bool_]
    place: Ints


def new_run_state(units: int, statics: int, readers: int, slots: int, size: Size) -> RunState:
    """Make the arrays.

    Args:
        units: of the chain.
        statics: weights, buffers and inputs.
        readers: entries in the lists of readers of crossing storages.
        slots: host copies of one stage.
        size: of the plans.
    """
    ranks, all_stages = size.ranks, size.stages * size.copies
    messages = 2 * min(readers, size.stages * size.stages)
    # Two copies a forward at most: of a unit, and of a region's checkpoint.
    places = 2 * min(size.window, units * size.micro_batches) + 4
    return RunState(
        free=np.zeros((ranks, 13), dtype=np.float64),
        latest=np.zeros(1, dtype=np.float64),
        level=np.zeros((ranks, 8), dtype=np.int64),
        pending=np.zeros((ranks, places, 3), dtype=np.int64),
        pending_end=np.zeros((ranks, places), dtype=np.float64),
        leaving=np.zeros((ranks, 3, 2), dtype=np.int64),
        leaving_end=np.zeros((ranks, 3), dtype=np.float64),
        made=np.zeros((ranks, statics), dtype=np.bool_),
        unfinished=np.zeros((ranks, statics), dtype=np.int64),
        coming=np.zeros((ranks, units), dtype=np.float64),
        slot_end=np.zeros(slots, dtype=np.float64),
        fetch_end=np.zeros(units, dtype=np.float64),
        arrival=np.zeros((messages, size.copies, size.micro_batches), dtype=np.float64),
        ended=np.zeros((2, all_stages, size.micro_batches), dtype=np.bool_),
        place=np.zeros(ranks, dtype=np.int64),
    )
