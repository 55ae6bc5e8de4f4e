"""Compiled kernels of the dynamic program over recomputation and host copies.

``times[s, a, m]`` is the least time that blocks from stage ``s`` on take, forward and backward,
with ``a`` parts on their way to the host before the forward of ``s`` (and as many back too early
after its backward) and ``m`` slots at hand, of which those parts take theirs; the input of ``s``
lies outside of ``m``. Infinity where nothing fits. The class of plans is that of `offload_chain`.

A block may be slowed down so that more parts pass beside it. The time this costs is convex in
their number:

1. parts that hide behind forward and backward cost nothing, and more of them never hurt;
2. those that hide behind one of the two only are tried one by one, or, where that is the backward,
   looked up in ``waited``, which knows the best end of a wait that costs forward time only;
3. beyond that each costs its full time out and back, as a wait between two blocks does, which is
   kept in the table.

Shapes: L = stages, A = parts on their way, M = slots, R = L (L + 1) / 2 rows of the rotor table.
"""

import numpy as np
import numpy.typing as npt

from remora.agents.exact.chains.offload_blocks import (
    BlockNeeds,
    backward_s,
    block_of,
    fewest_copied,
    free_parts,
    num_ways,
    slots_of,
)
from remora.agents.exact.chains.offload_chain import SlotMoves
from remora.agents.exact.chains.rotor_chain import SlotChain
from remora.agents.exact.chains.rotor_kernel import _compiled

__all__ = ["best_block", "fill_times"]

FloatArray = npt.NDArray[np.float64]
PartArray = npt.NDArray[np.int32]


@_compiled
def fill_times(chain: SlotChain, moves: SlotMoves, costs: FloatArray, times: FloatArray) -> None:
    """Fill the table of least times.

    Args:
        chain: the stages in slots.
        moves: what can be moved, in parts.
        costs: filled table of rotor for ``chain``, `[R, M + 1]`.
        times: `[L + 1, A + 1, M + 1]`, all infinite on entry.
    """
    stages = chain.forward_time.shape[0]
    part_s = moves.out_s + moves.in_s
    waited, last = np.empty_like(times), np.empty(times.shape, dtype=np.int32)
    for a in range(times.shape[1]):
        times[stages, a] = a * part_s
    _wait_forward(times[stages], moves.out_s, int(moves.most[stages]), waited[stages], last[stages])
    for s in range(stages - 1, -1, -1):
        for end in range(s + 1, stages + 1):
            rows = times[end], waited[end], last[end]
            for segment in (False, True):
                for way in range(num_ways(moves, stages, s, end, segment)):
                    block = block_of(chain, moves, s, end, segment, way)
                    again = backward_s(chain, costs, s, end, segment) + block.extra_s
                    for a in range(moves.most[s] + 1):
                        _relax(rows, times[s, a], again, block, a, moves)
        for a in range(1, moves.most[s] + 1):
            for m in range(times.shape[2]):
                times[s, a, m] = min(times[s, a, m], times[s, a - 1, m] + part_s)
        _wait_forward(times[s], moves.out_s, int(moves.most[s]), waited[s], last[s])


@_compiled
def _relax(
    rows: tuple[FloatArray, FloatArray, PartArray],
    out: FloatArray,
    again: FloatArray,
    block: BlockNeeds,
    parts: int,
    moves: SlotMoves,
) -> None:
    """Relax one row of the table by one block.

    Args:
        rows: of the stage after the block: least times, and what `_wait_forward` found from them,
            each `[A + 1, M + 1]`.
        out: of the block's first stage with ``parts`` on their way, `[M + 1]`.
        again: time of the block's backward by slots at hand, falling, `[M + 1]`.
        block: what it needs and leaves.
        parts: on their way before it.
        moves: the copies.
    """
    times, waited, last = rows
    flight = slots_of(parts, moves)
    first = max(max(block.lowest, _first_finite(again)) + flight, -block.shift)
    stop = min(out.shape[0], out.shape[0] - block.shift)
    if first >= stop:
        return
    out, again = out[first:stop], again[first - flight : stop - flight]
    first, stop = first + block.shift, stop + block.shift
    fewest = fewest_copied(moves, block, again[-1], parts, times.shape[0] - 1)
    if fewest > parts:
        return
    hidden = max(fewest, free_parts(block.forward_s, moves.out_s, parts))
    for copied in range(fewest, hidden + 1):
        out_s = max(block.forward_s, copied * moves.out_s)
        row = times[parts + block.added - copied, first:stop]
        _relax_copied(out, row, again, out_s, copied * moves.in_s)
    if hidden < parts:
        after = times[:, first:stop], waited[:, first:stop], last[:, first:stop]
        _relax_slowed(after, out, again, block.added, parts, hidden + 1, moves)


@_compiled
def _relax_slowed(
    rows: tuple[FloatArray, FloatArray, PartArray],
    out: FloatArray,
    again: FloatArray,
    added: int,
    parts: int,
    fewest: int,
    moves: SlotMoves,
) -> None:
    """Relax one row by a block whose forward waits for ``fewest`` parts or more."""
    times, waited, last = rows
    most = parts + added
    # More parts than pass beside the backward, or its own, a block cannot copy at this price.
    least_left = np.maximum(most - again / moves.in_s, added)
    left, out_s = most - fewest, most * moves.out_s
    width = _relax_waiting(out, waited[left], last[left], again, out_s, least_left)
    for copied in range(fewest, parts + 1):
        # With less backward than this, the last part may as well wait after the block.
        while width > 0 and copied > fewest and again[width - 1] <= (copied - 1) * moves.in_s:
            width -= 1
        out_s, row = copied * moves.out_s, times[most - copied, :width]
        _relax_copied(out[:width], row, again[:width], out_s, copied * moves.in_s)


@_compiled
def _relax_copied(
    out: FloatArray, after: FloatArray, again: FloatArray, out_s: float, in_s: float
) -> None:
    # Selecting instead of branching lets the compiler vectorise this innermost loop.
    for m in range(out.shape[0]):
        time = out_s + (again[m] if again[m] > in_s else in_s) + after[m]
        out[m] = time if time < out[m] else out[m]


@_compiled
def _relax_waiting(
    out: FloatArray,
    waited: FloatArray,
    last: PartArray,
    again: FloatArray,
    out_s: float,
    least_left: FloatArray,
) -> int:
    """Relax by the best wait of the forward; returns up to which slot that was too long a wait."""
    careful = 0
    for m in range(out.shape[0]):
        allowed = last[m] >= least_left[m]
        time = out_s + again[m] + waited[m]
        out[m] = time if allowed and time < out[m] else out[m]
        careful = careful if allowed else m + 1
    return careful


@_compiled
def _first_finite(row: FloatArray) -> int:
    for m in range(row.shape[0]):
        if row[m] < np.inf:
            return m
    return len(row)


@_compiled
def _wait_forward(
    rows: FloatArray, out_s: float, most: int, waited: FloatArray, last: PartArray
) -> None:
    """For every number of parts, where waiting in the forward alone would best end.

    Args:
        rows: rows of one stage, `[A + 1, M + 1]`.
        out_s: time of one part out.
        most: most parts on their way before the stage.
        waited: least of ``rows[b] - b * out_s`` over the parts ``b`` up to each, `[A + 1, M + 1]`.
        last: the largest ``b`` that reaches it, `[A + 1, M + 1]`.
    """
    for a in range(rows.shape[0]):
        for m in range(rows.shape[1]):
            time = rows[a, m] - a * out_s if a <= most else np.inf
            if a > 0 and waited[a - 1, m] < time:
                waited[a, m] = waited[a - 1, m]
                last[a, m] = last[a - 1, m]
            else:
                waited[a, m] = time
                last[a, m] = a


@_compiled
def _price(
    after: FloatArray, back_s: float, block: BlockNeeds, parts: int, moves: SlotMoves
) -> tuple[float, int]:
    """Least time of a block and what follows, and how many parts to copy beside the block.

    Args:
        after: least time by parts on their way after the block, `[A + 1]`.
        back_s: time of the block's backward.
        block: what it needs and leaves.
        parts: on their way before it.
        moves: the copies.
    """
    least, best = np.inf, 0
    fewest = fewest_copied(moves, block, back_s, parts, after.shape[0] - 1)
    for copied in range(fewest, parts + 1):
        time = max(block.forward_s, copied * moves.out_s) + max(back_s, copied * moves.in_s)
        time += after[parts - copied + block.added]
        if time < least:
            least, best = time, copied
    return least, best


@_compiled
def best_block(
    chain: SlotChain,
    moves: SlotMoves,
    costs: FloatArray,
    times: FloatArray,
    start: int,
    parts: int,
    slots: int,
) -> tuple[int, bool, int, int]:
    """Best first block from stage ``start`` on.

    Args:
        chain: the stages in slots.
        moves: what can be moved, in parts.
        costs: filled table of rotor for ``chain``, `[R, M + 1]`.
        times: the table that `fill_times` filled, `[L + 1, A + 1, M + 1]`.
        start: first stage.
        parts: on their way before it.
        slots: at hand; the entry of the table must be finite.

    Returns:
        end of the block, whether it is a segment, its way as in `block_of`, parts copied beside
        it. An end of ``start`` is a wait for one part instead of a block. Ties go to saving, then
        to shorter segments, to keeping, to fewer parts, and last to waiting.
    """
    stages = chain.forward_time.shape[0]
    left = slots - slots_of(parts, moves)
    least, best = np.inf, (start, False, 0, 1)
    for end in range(start + 1, stages + 1):
        for segment in (False, True):
            for way in range(num_ways(moves, stages, start, end, segment)):
                block = block_of(chain, moves, start, end, segment, way)
                after_slots = slots + block.shift
                if left < block.lowest or not 0 <= after_slots < times.shape[2]:
                    continue
                back_s = backward_s(chain, costs, start, end, segment)[left] + block.extra_s
                time, copied = _price(times[end, :, after_slots], back_s, block, parts, moves)
                if time < least:
                    least, best = time, (end, segment, way, copied)
    waiting = times[start, parts - 1, slots] if parts > 0 else np.inf
    return best if least <= waiting + moves.out_s + moves.in_s else (start, False, 0, 1)
