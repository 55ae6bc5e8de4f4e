"""Compiled kernels of the rotor dynamic program.

``costs[row_of(L, s, t), m]`` is the least time to run stages ``s..t`` forward as often as needed
and backward once, with ``m`` slots at hand. The gradient of the output of ``t`` is counted inside
``m`` from the start (except for the last stage, whose gradient appears with the loss); the input
of ``s`` lies outside. Infinity where nothing fits.

Either stage ``s`` saves everything and ``s+1..t`` follows with what is left, or the input of some
stage ``j`` is checkpointed: run ``s..j-1`` forward, solve ``j..t``, then solve ``s..j-1`` again
from the input of ``s``, with the memory of the checkpoint given back.

Shapes: L = stages, R = L (L + 1) / 2 rows (one per pair s <= t), M = slots.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from remora.agents.exact.chains.rotor_chain import SlotChain

__all__ = ["best_split", "fill_costs", "row_of"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    try:
        return cast(_Function, numba.njit(cache=True)(function))
    except RuntimeError:  # neither this folder nor the user's cache folder can be written
        return cast(_Function, numba.njit(function))


@_compiled
def row_of(num_stages: int, start: int, last: int) -> int:
    """Row of the pair ``(start, last)``, both included, in the packed triangular table."""
    return start * num_stages - start * (start - 1) // 2 + last - start


@_compiled
def _gradient_slots(held: IntArray, last: int) -> int:
    # The gradient of the chain's last output does not exist before the loss.
    return held[last + 1] if last < held.shape[0] - 2 else 0


@_compiled
def _relax_save(out: FloatArray, time: float, lowest: int, saved: int, rest: FloatArray) -> None:
    for m in range(lowest, out.shape[0]):
        out[m] = time + rest[m - saved]


@_compiled
def _relax_split(
    out: FloatArray, run: float, lowest: int, checkpoint: int, after: FloatArray, again: FloatArray
) -> None:
    # Selecting instead of branching lets the compiler vectorise this innermost loop.
    for m in range(lowest, out.shape[0]):
        time = run + after[m - checkpoint] + again[m]
        out[m] = time if time < out[m] else out[m]


@_compiled
def fill_costs(chain: SlotChain, costs: FloatArray) -> None:
    """Fill the table of least times.

    Args:
        chain: the problem in slots.
        costs: `[R, M + 1]`, all infinite on entry.
    """
    stages = chain.forward_time.shape[0]
    nothing = np.zeros(costs.shape[1])
    for s in range(stages - 1, -1, -1):
        for t in range(s, stages):
            out = costs[row_of(stages, s, t)]
            gradient = _gradient_slots(chain.held, t)
            lowest = max(gradient + chain.save_need[s], chain.backward_need[s])
            rest = nothing if s == t else costs[row_of(stages, s + 1, t)]
            time = chain.forward_time[s] + chain.backward_time[s]
            _relax_save(out, time, lowest, chain.saved[s], rest)
            run = 0.0
            need = chain.checkpoint_need[s]
            for j in range(s + 1, t + 1):
                run += chain.forward_time[j - 1]
                if j > s + 1:
                    need = max(need, chain.forget_need[j - 1])
                lowest = max(gradient + need, chain.held[j])
                after = costs[row_of(stages, j, t)]
                again = costs[row_of(stages, s, j - 1)]
                _relax_split(out, run, lowest, chain.held[j], after, again)


@_compiled
def best_split(chain: SlotChain, costs: FloatArray, start: int, last: int, slots: int) -> int:
    """Best decision for stages ``start..last`` (both included) with ``slots`` at hand.

    Args:
        chain: the problem in slots.
        costs: the table that `fill_costs` filled, `[R, M + 1]`.
        start: first stage.
        last: last stage.
        slots: memory at hand; the entry of the table must be finite.

    Returns:
        ``start`` where that stage saves everything, else the stage whose input is checkpointed.
        Ties go to saving, then to the earliest checkpoint.
    """
    stages = chain.forward_time.shape[0]
    gradient = _gradient_slots(chain.held, last)
    best = start
    least = np.inf
    if slots >= max(gradient + chain.save_need[start], chain.backward_need[start]):
        least = chain.forward_time[start] + chain.backward_time[start]
        if last > start:
            least += costs[row_of(stages, start + 1, last), slots - chain.saved[start]]
    run = 0.0
    need = chain.checkpoint_need[start]
    for j in range(start + 1, last + 1):
        run += chain.forward_time[j - 1]
        if j > start + 1:
            need = max(need, chain.forget_need[j - 1])
        if slots < max(gradient + need, chain.held[j]):
            continue
        after = costs[row_of(stages, j, last), slots - chain.held[j]]
        time = run + after + costs[row_of(stages, start, j - 1), slots]
        if time < least:
            least = time
            best = j
    return best
