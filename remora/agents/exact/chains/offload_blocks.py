"""Compiled rules of one block of a plan: what it needs, what it leaves, how many parts pass free.

The class of plans is that of `offload_chain`.

Shapes: L = stages, M = slots, R = L (L + 1) / 2 rows of the rotor table.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from remora.agents.exact.chains.offload_chain import SlotMoves
from remora.agents.exact.chains.rotor_chain import SlotChain
from remora.agents.exact.chains.rotor_kernel import _compiled, row_of

__all__ = [
    "BlockNeeds",
    "backward_s",
    "block_of",
    "fewest_copied",
    "free_parts",
    "num_ways",
    "slots_of",
]

FloatArray = npt.NDArray[np.float64]
_NEVER = 1 << 40


class BlockNeeds(NamedTuple):
    """What a block needs and leaves.

    Attributes:
        lowest: fewest slots at hand beside the parts on their way.
        shift: slots at hand after it, less those before.
        added: parts that it sends on their way.
        forward_s: time of its forward.
        extra_s: added to its backward; where copies do not overlap, its own ones too.
    """

    lowest: int
    shift: int
    added: int
    forward_s: float
    extra_s: float


@_compiled
def num_ways(moves: SlotMoves, num_stages: int, start: int, end: int, segment: bool) -> int:
    """In how many ways stages ``start`` to ``end - 1`` can be one block; 0 if they cannot."""
    if segment:
        # The last stage always saves.
        return 0 if end == num_stages else 1 + (moves.input_parts[start] > 0)
    return 1 + moves.num_options[start] if end == start + 1 else 0


@_compiled
def block_of(
    chain: SlotChain, moves: SlotMoves, start: int, end: int, segment: bool, way: int
) -> BlockNeeds:
    """What a block of stages ``start`` to ``end - 1`` needs and leaves.

    Args:
        chain: the stages in slots.
        moves: what can be moved, in parts.
        start: first stage.
        end: stage after the block.
        segment: whether it is run again; else it is one stage that saves.
        way: 0 if it keeps all that it holds, else the stage's option, counted from 1, or 1 if the
            segment's input is moved.
    """
    added, extra_s = 0, 0.0
    if segment:
        lowest = max(chain.checkpoint_need[start], chain.held[end])
        for stage in range(start + 1, end):
            lowest = max(lowest, chain.forget_need[stage])
        shift = -chain.held[end]
        if way > 0:
            shift += moves.freed[start] - moves.input_rest[start]
            added = moves.input_parts[start]
    else:
        lowest = max(chain.save_need[start], chain.backward_need[start])
        shift = -chain.saved[start]
        if way > 0:
            shift = moves.freed[start] - moves.rest[start, way - 1] - chain.held[end]
            added = moves.parts[start, way - 1]
            extra_s = moves.extra_s[start, way - 1]
    if end == chain.forward_time.shape[0] and added > 0:
        # Nothing runs between the last stage's forward and its backward.
        lowest = shift = _NEVER
    if not moves.overlaps:
        extra_s += added * (moves.out_s + moves.in_s)
        added = 0
    return BlockNeeds(lowest, shift, added, moves.first_s[start:end].sum(), extra_s)


@_compiled
def backward_s(
    chain: SlotChain, costs: FloatArray, start: int, end: int, segment: bool
) -> FloatArray:
    """Time of a block's backward by slots at hand, `[M + 1]`."""
    if segment:
        row: FloatArray = costs[row_of(chain.forward_time.shape[0], start, end - 1)]
        return row
    return np.full(costs.shape[1], chain.backward_time[start])


@_compiled
def slots_of(parts: int, moves: SlotMoves) -> int:
    """Slots that parts on their way take."""
    return (parts + moves.parts_per_slot - 1) // moves.parts_per_slot


@_compiled
def free_parts(time_s: float, part_s: float, parts: int) -> int:
    """As many of ``parts`` as pass in the time."""
    # A time may be infinite, or hold more parts than an integer can.
    return parts if time_s >= parts * part_s else int(time_s / part_s)


@_compiled
def fewest_copied(
    moves: SlotMoves, block: BlockNeeds, back_s: float, parts: int, limit: int
) -> int:
    """Fewest parts worth copying beside a block whose backward takes ``back_s``.

    More parts never hurt while they cost no time, and at most ``limit`` may be on their way after.
    """
    forward = free_parts(block.forward_s, moves.out_s, parts)
    backward = free_parts(back_s, moves.in_s, parts)
    return max(min(forward, backward), parts + block.added - limit)
