"""Compiled kernels of the two-level dynamic program over cuts and memory options.

Shapes: L = units, O = most options of a unit, G = stages, M = memory slots. Options that a unit
does not have weigh more than M slots.
"""

import numpy as np
import numpy.typing as npt

from remora.agents.exact.chains.rotor_kernel import _compiled

__all__ = ["best_cuts", "fill_knapsack", "fill_stage", "trace_knapsack"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@_compiled
def _add_unit(before: FloatArray, weights: IntArray, extra: FloatArray, after: FloatArray) -> None:
    """Least seconds by slots at hand, `[M + 1]`, with one unit more; it takes one option."""
    after[:] = np.inf
    for option in range(weights.shape[0]):
        weight = weights[option]
        seconds = extra[option]
        # Selecting instead of branching lets the compiler vectorise this innermost loop.
        for m in range(weight, after.shape[0]):
            time = before[m - weight] + seconds
            after[m] = time if time < after[m] else after[m]


@_compiled
def fill_stage(
    weights: IntArray, extra: FloatArray, slots: IntArray, num_slots: int, out: FloatArray
) -> None:
    """Least seconds that the options of the units ``[a, b)`` add within the slots of that range.

    For every ``a`` the units after it join one by one, so that all ranges share their work.

    Args:
        weights: slots that an option takes, `[L, O]`.
        extra: seconds that it adds, `[L, O]`.
        slots: at hand for every range; below 0 where the range cannot be a stage,
            `[L + 1, L + 1]`.
        num_slots: M, the most of them.
        out: `[L + 1, L + 1]`, infinite on entry.
    """
    units = weights.shape[0]
    before = np.empty(num_slots + 1)
    after = np.empty(num_slots + 1)
    for a in range(units):
        last = -1
        for b in range(a + 1, units + 1):
            if slots[a, b] >= 0:
                last = b
        before[:] = 0.0
        for b in range(a + 1, last + 1):
            _add_unit(before, weights[b - 1], extra[b - 1], after)
            before, after = after, before
            if slots[a, b] >= 0:
                out[a, b] = before[slots[a, b]]


@_compiled
def best_cuts(
    stage: FloatArray, message: FloatArray, limit: float, best: FloatArray, cut: IntArray
) -> None:
    """Least sum over the stages with every stage below a limit.

    Args:
        stage: what each stage takes with the units ``[a, b)``, `[G, L + 1, L + 1]`.
        message: added to the sum, but not held against the limit, `[G, L + 1, L + 1]`.
        limit: what no stage may reach.
        best: least sum with ``[0, b)`` in the first g + 1 stages, `[G, L + 1]`; filled here.
        cut: first unit of the last of those stages, -1 where nothing fits, `[G, L + 1]`.
    """
    stages, size = best.shape
    best[:] = np.inf
    cut[:] = -1
    for g in range(stages):
        # Stages before and after need a unit each.
        for b in range(g + 1, size - (stages - 1 - g)):
            for a in range(g, b if g else 1):
                if stage[g, a, b] < limit:
                    total = stage[g, a, b] + message[g, a, b]
                    if g:
                        total += best[g - 1, a]
                    if total < best[g, b]:
                        best[g, b] = total
                        cut[g, b] = a


@_compiled
def fill_knapsack(weights: IntArray, extra: FloatArray, table: FloatArray) -> None:
    """Least seconds of the first u units by slots at hand.

    Args:
        weights: slots that an option takes, `[U, O]`.
        extra: seconds that it adds, `[U, O]`.
        table: `[U + 1, M + 1]`; filled here.
    """
    table[0, :] = 0.0
    for unit in range(weights.shape[0]):
        _add_unit(table[unit], weights[unit], extra[unit], table[unit + 1])


@_compiled
def trace_knapsack(
    weights: IntArray, extra: FloatArray, table: FloatArray, slots: int, chosen: IntArray
) -> None:
    """Options of the best plan for ``slots``, which must be finite in the table.

    Ties go to the first option.

    Args:
        weights: as in `fill_knapsack`.
        extra: as there.
        table: as it left it.
        slots: at hand.
        chosen: `[U]`; filled here.
    """
    for unit in range(weights.shape[0] - 1, -1, -1):
        least = np.inf
        left = 0
        for option in range(weights.shape[1]):
            if weights[unit, option] <= slots:
                time = table[unit, slots - weights[unit, option]] + extra[unit, option]
                if time < least:
                    least = time
                    chosen[unit] = option
                    left = slots - weights[unit, option]
        slots = left
