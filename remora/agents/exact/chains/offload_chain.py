"""The chain problem of recomputation and host copies together, and its sizes in memory slots.

Source of the problem: Beaumont, Eyraud-Dubois, Shilova, "Efficient combination of rematerialization
and offloading for training DNNs", NeurIPS 2021 (their POFO). The class of plans below is ours.

**Blocks.** The stages are cut into blocks, run one after the other in the first forward and in
opposite order in the backward. A block is one stage that saves its set in the first forward, or a
segment of stages that only passes through and is run again from its input before its backward, by
an optimal nested plan of recomputation (`rotor`). The last stage always saves.

**What a block holds** from its forward to its backward: a saving stage its input and what it saved,
less its output, which the next block holds as its input; a segment its input. A saving stage may
take one of its options instead: that option adds time to its backward, says what stays, and what
moves to the host and back. A segment may move its input; what a move does not take stays. The
chain's own first input is held in any case. While a block runs, it has all of its saved set.

**Copies.** Each direction copies one after the other, in whole parts of a memory slot. A block's
copy out may run from the end of its forward on. Copies back mirror them: what leaves beside the
forward of a block comes back beside the backward of that block, its recomputation included, in
opposite order. Parts on their way at the border before a block count as memory during all of that
block's forward and backward, at most a given number of them. What has not left when the forward
ends is waited for, and fetched back as the backward begins.

**Time.** A block beside which ``n`` parts are copied takes the longer of its forward and ``n``
parts out, and the longer of its backward and ``n`` parts in; compute waits for the difference.
Where copies do not overlap with compute, a copy out and back is waited for after the forward and
before the backward of its own block.

With no options and no moves, these are the plans of `rotor`. Without rounding, the plan found is
optimal in this class; sizes that are no whole slots and parts are rounded against the plan.

Shapes: L = number of stages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from remora.agents.exact.chains.rotor_chain import Chain
from remora.errors import InvalidInputError

__all__ = ["OffloadChain", "SlotMoves", "StageOption", "to_moves"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StageOption:
    """Another way to save a stage.

    Attributes:
        extra_time: added to the stage's backward.
        held_size: stays from the stage's forward to its backward, its input included where that
            stays, its output not counted.
        moved_size: copied one way, 0 where nothing is; the last stage cannot move anything.
    """

    extra_time: float
    held_size: float
    moved_size: float


@dataclass(frozen=True)
class OffloadChain:
    """A chain of stages, what else can be done with them, and how fast copies are.

    Attributes:
        chain: the stages; see `remora.agents.exact.chains.rotor_chain.Chain`.
        options: other ways to save each stage than to keep all of its set.  # [L][any number]
        moved_input: copied one way where the input of a segment that begins here is moved, 0 where
            it cannot be; what the input has more than that stays.  # [L]
        out_time: time per unit of size to the host.
        in_time: time per unit of size back.
        overlaps: whether copies run beside compute.
        first_time: time of each stage's first forward, where it differs from that of a run again,
            which is `chain.forward_time`; empty where none does.  # [L]

    Raises:
        InvalidInputError: a field has the wrong length, or a value that is not allowed.
    """

    chain: Chain
    options: Sequence[Sequence[StageOption]]
    moved_input: Sequence[float]
    out_time: float
    in_time: float
    overlaps: bool = True
    first_time: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Make lists tuples and check every field."""
        object.__setattr__(self, "options", tuple(tuple(menu) for menu in self.options))
        object.__setattr__(self, "moved_input", tuple(float(size) for size in self.moved_input))
        first = self.first_time or self.chain.forward_time
        object.__setattr__(self, "first_time", tuple(float(time) for time in first))
        stages = self.chain.num_stages
        for name in ("options", "moved_input", "first_time"):
            length = len(getattr(self, name))
            if length != stages:
                raise InvalidInputError(
                    f"{name} has {length} values; a chain of {stages} stages needs {stages}"
                )
        for name in ("moved_input", "first_time"):
            for index, value in enumerate(getattr(self, name)):
                _check_size(f"{name}[{index}]", value)
        for index, menu in enumerate(self.options):
            for number, option in enumerate(menu):
                for name in ("extra_time", "held_size", "moved_size"):
                    _check_size(f"options[{index}][{number}].{name}", getattr(option, name))
        for name in ("out_time", "in_time"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"{name} is {value}; it must be a finite number above 0")


def _check_size(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InvalidInputError(f"{name} is {value}; it must be a finite number, 0 or larger")


class SlotMoves(NamedTuple):
    """What the dynamic program reads beside the `SlotChain`: moves in parts, rests in slots.

    A named tuple of arrays, because compiled functions take it as one argument. What stays is
    rounded up and what leaves is rounded down, so a plan that fits in slots fits in true sizes.

    Shapes: K = most options of a stage.

    Attributes:
        first_s: time of each stage's first forward, `[L]`.
        parts_per_slot: parts of a memory slot.
        out_s, in_s: time of one part to the host and back.
        overlaps: whether copies run beside compute.
        freed: an input that leaves, `[L]` slots.
        num_options: options of each stage, `[L]`.
        extra_s: time that an option adds, `[L, K]`.
        rest: what stays with it, `[L, K]` slots.
        parts: copied with it, `[L, K]`.
        input_rest: what stays of a segment's moved input, `[L]` slots.
        input_parts: copied for a segment's moved input, 0 where it cannot be moved, `[L]`.
        most: most parts that can be on their way before each stage, `[L + 1]`.
    """

    first_s: npt.NDArray[np.float64]
    parts_per_slot: int
    out_s: float
    in_s: float
    overlaps: bool
    freed: IntArray
    num_options: IntArray
    extra_s: npt.NDArray[np.float64]
    rest: IntArray
    parts: IntArray
    input_rest: IntArray
    input_parts: IntArray
    most: IntArray


def to_moves(
    problem: OffloadChain, unit: Fraction, parts_per_slot: int, most_slots: int
) -> SlotMoves:
    """Round the moves of ``problem`` to slots of size ``unit`` and parts of them.

    Args:
        problem: the problem.
        unit: size of one slot, in the unit of the chain's sizes.
        parts_per_slot: parts of a slot.
        most_slots: most slots on their way at once.
    """
    chain, part = problem.chain, unit / parts_per_slot
    # The first input is the caller's: it never leaves.
    inputs = [Fraction(0), *map(Fraction, chain.boundary_size[1:-1])]
    moved = [Fraction(0), *map(Fraction, problem.moved_input[1:])]
    shape = (chain.num_stages, max(1, *(len(menu) for menu in problem.options)))
    extra_s = np.zeros(shape)
    rest, parts = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for stage, menu in enumerate(problem.options):
        for number, option in enumerate(menu):
            extra_s[stage, number] = option.extra_time
            rest[stage, number] = math.ceil(Fraction(option.held_size) / unit)
            parts[stage, number] = math.ceil(Fraction(option.moved_size) / part)
    moves = SlotMoves(
        first_s=np.array(problem.first_time),
        parts_per_slot=parts_per_slot,
        out_s=problem.out_time * float(part),
        in_s=problem.in_time * float(part),
        overlaps=problem.overlaps,
        freed=_whole(math.floor(size / unit) for size in inputs),
        num_options=_whole(len(menu) for menu in problem.options),
        extra_s=extra_s,
        rest=rest,
        parts=parts,
        input_rest=_whole(
            math.ceil(max(Fraction(0), size - gone) / unit)
            for size, gone in zip(inputs, moved, strict=True)
        ),
        input_parts=_whole(math.ceil(size / part) for size in moved),
        most=np.zeros(chain.num_stages + 1, dtype=np.int64),
    )
    return moves._replace(most=_most_on_their_way(chain, moves, parts_per_slot * most_slots))


def _whole(values: Iterable[int]) -> IntArray:
    return np.array(list(values), dtype=np.int64)


def _most_on_their_way(chain: Chain, moves: SlotMoves, limit: int) -> IntArray:
    """Parts on their way before each stage if everything is moved and nothing waits, `[L + 1]`."""
    stages = chain.num_stages
    most = np.zeros(stages + 1, dtype=np.int64)
    if not moves.overlaps:
        return most
    for start in range(stages - 1):
        parts = max(moves.parts[start].max(), moves.input_parts[start])
        forward = backward = 0.0
        for end in range(start + 1, stages):
            forward += moves.first_s[end - 1]
            backward += chain.backward_time[end - 1]
            # A block takes at least this, so at least so many parts are copied beside it.
            copied = min(forward / moves.out_s, backward / moves.in_s)
            left = max(0, int(most[start]) - math.floor(copied)) + int(parts)
            most[end] = max(most[end], min(limit, left))
    most[stages] = most[stages - 1]
    return most
