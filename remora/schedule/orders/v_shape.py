"""Pipelines folded to a V: rank r holds stages r and 2p-1-r, the last rank the turning point.

``ZERO_BUBBLE`` is ZB-V (Qi et al. 2023, 2024): the backward is split, and weight gradients fill
the time in which a rank would wait. ``DUALPIPE`` is DualPipe of DeepSeek-V3 cut in half: the two
stages of a rank take turns in pairs of a forward of one and a backward of the other; each pair
is written here as its two halves, one after the other.

A rank's order is a row of phases, each some tasks repeated. A task is written as kind and chunk;
which micro-batch it is follows from how many of the same came before on that rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from remora.schedule.orders.order import TWO, Order, OrderRule, refuse_micro_batches

__all__ = ["DUALPIPE", "ZERO_BUBBLE"]

# A task of a phase: 4 * chunk + kind. Chunk 0 is stage r, chunk 1 is stage 2p-1-r.
_F0, _B0, _I0, _W0, _F1, _B1, _I1, _W1 = range(8)
# The weight gradients that have waited longest, of either chunk.
_W = 8

_Phase = tuple[Sequence[int], int]
_Codes = NDArray[np.int64]


def _zero_bubble_phases(rank: int, num_ranks: int, micro_batches: int) -> Iterable[_Phase]:
    """Fill the V, keep one micro-batch in and one out, then save up weight gradients for the end.

    Fewer than 2p-1 micro-batches do not fill the V: their order is that of 2p-1, less the absent.
    """
    to_turn = num_ranks - rank
    steady = max(micro_batches, 2 * num_ranks - 1) - num_ranks
    return (
        ((_F0,), 2 * to_turn - 1),
        ((_F1, _F0), rank),
        ((_F1, _I1, _W1), to_turn),
        ((_F0, _I0, _W0, _F1, _I1, _W1), steady),
        ((_I0, _I1), rank),
        ((_I0, _W0), to_turn),
        ((_W1,), rank),
        ((_W0,), rank),
    )


def _dualpipe_phases(rank: int, num_ranks: int, micro_batches: int) -> Iterable[_Phase]:
    """Fill the V, then pair forwards of one chunk with backwards of the other; split at the end."""
    inside, before_turn = rank + 1, num_ranks - rank - 1
    return (
        ((_F0,), 2 * before_turn),
        ((_F0, _F1), inside),
        ((_I1, _W, _F1), before_turn),
        ((_F0, _B1, _F1, _B0), micro_batches - 2 * num_ranks + inside),
        ((_B1, _F1, _B0), before_turn),
        ((_B1, _B0), inside // 2),
        ((_B1, _I0), inside % 2),
        ((_I1, _I0), inside // 2),
        ((_W, _I0), before_turn),
        ((_W,), inside),
    )


def _codes_of(phases: Iterable[_Phase]) -> _Codes:
    """Return the tasks of a rank, every weight gradient with its chunk: first in, first out."""
    codes = np.concatenate([np.tile(np.array(tasks), times) for tasks, times in phases])
    inputs = codes[np.isin(codes, (_I0, _I1))]
    waited_longest = codes == _W
    codes[waited_longest] = inputs[: waited_longest.sum()] + (_W0 - _I0)
    return codes


def _micro_batches_of(codes: _Codes) -> NDArray[np.int64]:
    """Count, for every task, how many of the same its rank ran before on the same chunk."""
    micro_batch = np.empty_like(codes)
    for forward, full, inputs, weights in ((_F0, _B0, _I0, _W0), (_F1, _B1, _I1, _W1)):
        forwards, backwards = codes == forward, np.isin(codes, (full, inputs))
        micro_batch[forwards] = np.arange(forwards.sum())
        micro_batch[backwards] = np.arange(backwards.sum())
        micro_batch[codes == weights] = micro_batch[codes == inputs]
    return micro_batch


def _order(
    phases: Callable[[int, int, int], Iterable[_Phase]], num_ranks: int, micro_batches: int
) -> Order:
    """Lay the phases of every rank one after the other."""
    kinds, stages, numbers = [], [], []
    for rank in range(num_ranks):
        codes = _codes_of(phases(rank, num_ranks, micro_batches))
        micro_batch = _micro_batches_of(codes)
        real = micro_batch < micro_batches
        codes, micro_batch = codes[real], micro_batch[real]
        kinds.append((codes % 4).astype(np.int8))
        stages.append(np.where(codes < 4, rank, 2 * num_ranks - 1 - rank).astype(np.int32))
        numbers.append(micro_batch.astype(np.int32))
    ranks = np.arange(num_ranks, dtype=np.int32)
    return Order(
        kind=np.concatenate(kinds),
        stage=np.concatenate(stages),
        micro_batch=np.concatenate(numbers),
        start=np.cumsum([0, *map(len, kinds)]),
        stage_rank=np.concatenate([ranks, ranks[::-1]]),
    )


def _zero_bubble_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    return _order(_zero_bubble_phases, num_ranks, micro_batches)


def _dualpipe_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    return _order(_dualpipe_phases, num_ranks, micro_batches)


def _check_dualpipe(num_ranks: int, micro_batches: int) -> None:
    least = 2 * num_ranks
    if micro_batches < least:
        raise refuse_micro_batches(
            micro_batches, f"with pipeline.kind='dualpipe_v' on {num_ranks} ranks: at least {least}"
        )


ZERO_BUBBLE = OrderRule(_zero_bubble_order, TWO, splits_backward=True)
DUALPIPE = OrderRule(_dualpipe_order, TWO, _check_dualpipe, splits_backward=True)
