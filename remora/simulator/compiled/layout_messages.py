"""What crosses between the stages of a plan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.chain_arrays import ChainArrays
from remora.simulator.compiled.columns import DIFFERENTIABLE, MAKER, SIZE
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import MESSAGES, LayoutArrays
from remora.simulator.compiled.link_kernel import HardwareArrays, message_s

__all__ = ["find_messages"]

Ints = NDArray[np.int64]


@kernel
def find_messages(
    layout: LayoutArrays,
    chain: ChainArrays,
    hardware: HardwareArrays,
    stage_rank: Ints,
    stages: int,
) -> None:
    """Fill the messages of a layout whose ``stage_of`` is known."""
    _count_traffic(layout, chain, stages)
    _list_messages(layout, stages)
    _list_outgoing(layout, stages)
    for number in range(layout.counts[MESSAGES]):
        target, source = layout.messages[number, 0], layout.messages[number, 1]
        for copy in range(layout.seconds.shape[1]):
            sender = stage_rank[source + copy * stages]
            receiver = stage_rank[target + copy * stages]
            layout.seconds[number, copy] = -1.0
            if sender != receiver:
                layout.seconds[number, copy] = message_s(
                    hardware, sender, receiver, layout.messages[number, 3]
                )


@kernel
def _count_traffic(layout: LayoutArrays, chain: ChainArrays, stages: int) -> None:
    """Bytes by direction, target and source.

    An activation goes to each stage that reads it once, and a gradient comes back from each.
    """
    traffic, seen = layout.traffic, layout.seen
    for target in range(stages):
        seen[target] = -1
        for source in range(stages):
            traffic[0, target, source] = 0
            traffic[1, target, source] = 0
    for storage in range(chain.num_forward[0]):
        source, size = layout.stage_of[chain.cross[storage, MAKER]], chain.cross[storage, SIZE]
        for place in range(chain.reader_start[storage], chain.reader_start[storage + 1]):
            target = layout.stage_of[chain.readers[place]]
            if target > source and seen[target] != storage:
                seen[target] = storage
                traffic[0, target, source] += size
                if chain.cross[storage, DIFFERENTIABLE]:
                    traffic[1, source, target] += size


@kernel
def _list_messages(layout: LayoutArrays, stages: int) -> None:
    count = 0
    for direction in range(2):
        for target in range(stages):
            layout.first_message[direction * stages + target] = count
            for source in range(stages):
                if layout.traffic[direction, target, source] > 0:
                    layout.messages[count, 0] = target
                    layout.messages[count, 1] = source
                    layout.messages[count, 2] = direction
                    layout.messages[count, 3] = layout.traffic[direction, target, source]
                    count += 1
    layout.first_message[2 * stages] = count
    layout.counts[MESSAGES] = count


@kernel
def _list_outgoing(layout: LayoutArrays, stages: int) -> None:
    """Messages of every source, by direction, in order of their targets."""
    start, messages = layout.outgoing_start, layout.messages
    for row in range(2 * stages + 1):
        start[row] = 0
    for number in range(layout.counts[MESSAGES]):
        start[messages[number, 2] * stages + messages[number, 1] + 1] += 1
    for row in range(2 * stages):
        start[row + 1] += start[row]
    # Filling moves every start to its end, which is the next one's start: moved back below.
    for number in range(layout.counts[MESSAGES]):
        row = messages[number, 2] * stages + messages[number, 1]
        layout.outgoing[start[row]] = number
        start[row] += 1
    for row in range(2 * stages, 0, -1):
        start[row] = start[row - 1]
    start[0] = 0
