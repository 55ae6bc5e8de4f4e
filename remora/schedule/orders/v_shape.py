"""Pipelines folded to a V: rank r holds stages r and 2p-1-r, the last rank the turning point.

``ZERO_BUBBLE`` is ZB-V (Qi et al. 2023, 2024): the backward is split, and weight gradients fill
the time in which a rank would wait. ``DUALPIPE`` is DualPipe of DeepSeek-V3 cut in half: the two
stages of a rank take turns in pairs of a forward of one and a backward of the other; each pair
is written here as its two halves, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from remora.schedule.orders.order import TWO, Order, OrderRule, refuse_micro_batches
from remora.schedule.orders.phases import (
    B0,
    B1,
    F0,
    F1,
    I0,
    I1,
    W0,
    W1,
    Phase,
    Placed,
    W,
    count,
    order_of_ranks,
)

__all__ = ["DUALPIPE", "ZERO_BUBBLE"]

_Phases = Callable[[int, int, int], Iterable[Phase]]


def _order(phases: _Phases, num_ranks: int, micro_batches: int) -> Order:
    """Chunk 0 of rank r is stage r, chunk 1 is stage 2p-1-r."""

    def tasks(rank: int) -> Placed:
        counted = count(phases(rank, num_ranks, micro_batches), micro_batches)
        stages = np.array([rank, 2 * num_ranks - 1 - rank], dtype=np.int32)
        return Placed(counted.kind, stages[counted.chunk], counted.number)

    stage_rank = [*range(num_ranks), *reversed(range(num_ranks))]
    return order_of_ranks(map(tasks, range(num_ranks)), stage_rank)


def _zero_bubble(rank: int, num_ranks: int, micro_batches: int) -> Iterable[Phase]:
    """Fill the V, then one micro-batch in and one out; save weight gradients for the end.

    Fewer than 2p-1 micro-batches do not fill the V: their order is that of 2p-1, less the absent.
    """
    to_turn = num_ranks - rank
    steady = max(micro_batches, 2 * num_ranks - 1) - num_ranks
    return (
        ((F0,), 2 * to_turn - 1),
        ((F1, F0), rank),
        ((F1, I1, W1), to_turn),
        ((F0, I0, W0, F1, I1, W1), steady),
        ((I0, I1), rank),
        ((I0, W0), to_turn),
        ((W1,), rank),
        ((W0,), rank),
    )


def _dualpipe(rank: int, num_ranks: int, micro_batches: int) -> Iterable[Phase]:
    """Fill the V, then pair forwards of one chunk with backwards of the other; split at the end."""
    inside, before_turn = rank + 1, num_ranks - rank - 1
    return (
        ((F0,), 2 * before_turn),
        ((F0, F1), inside),
        ((I1, W, F1), before_turn),
        ((F0, B1, F1, B0), micro_batches - 2 * num_ranks + inside),
        ((B1, F1, B0), before_turn),
        ((B1, B0), inside // 2),
        ((B1, I0), inside % 2),
        ((I1, I0), inside // 2),
        ((W, I0), before_turn),
        ((W,), inside),
    )


def _zero_bubble_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    return _order(_zero_bubble, num_ranks, micro_batches)


def _dualpipe_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    return _order(_dualpipe, num_ranks, micro_batches)


def _check_dualpipe(num_ranks: int, micro_batches: int) -> None:
    least = 2 * num_ranks
    if micro_batches < least:
        raise refuse_micro_batches(
            micro_batches, f"with pipeline.kind='dualpipe_v' on {num_ranks} ranks: at least {least}"
        )


ZERO_BUBBLE = OrderRule("zero bubble (ZBV)", _zero_bubble_order, TWO, splits_backward=True)
DUALPIPE = OrderRule("DualPipeV", _dualpipe_order, TWO, _check_dualpipe, splits_backward=True)
