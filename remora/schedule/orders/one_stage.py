"""Kinds with one stage per rank: GPipe (Huang et al. 2019) and 1F1B (Narayanan et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from remora.schedule.orders.order import ONE, Order, OrderRule, refuse_micro_batches
from remora.schedule.orders.phases import B0, F0, Phase, Placed, count, order_of_ranks

__all__ = ["GPIPE", "ONE_F_ONE_B"]

_Phases = Callable[[int, int, int], Iterable[Phase]]


def _order(phases: _Phases, num_ranks: int, micro_batches: int) -> Order:
    """Stage s lies on rank s."""

    def tasks(rank: int) -> Placed:
        kind, _, micro_batch = count(phases(rank, num_ranks, micro_batches), micro_batches)
        return Placed(kind, np.full(len(kind), rank, dtype=np.int32), micro_batch)

    return order_of_ranks(map(tasks, range(num_ranks)), stage_rank=range(num_ranks))


def _all_then_all(rank: int, num_ranks: int, micro_batches: int) -> Iterable[Phase]:
    return ((F0,), micro_batches), ((B0,), micro_batches)


def _in_turn(rank: int, num_ranks: int, micro_batches: int) -> Iterable[Phase]:
    """Warm up until the first micro-batch is about to come back, then forward and backward."""
    warm_up = num_ranks - 1 - rank
    return ((F0,), warm_up), ((F0, B0), micro_batches - warm_up), ((B0,), warm_up)


def _gpipe_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    return _order(_all_then_all, num_ranks, micro_batches)


def _1f1b_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    return _order(_in_turn, num_ranks, micro_batches)


def _check_1f1b(num_ranks: int, micro_batches: int) -> None:
    if micro_batches < num_ranks:
        raise refuse_micro_batches(
            micro_batches, f"with pipeline.kind='1f1b' on {num_ranks} ranks: at least {num_ranks}"
        )


GPIPE = OrderRule("GPipe", _gpipe_order, ONE)
ONE_F_ONE_B = OrderRule("1F1B", _1f1b_order, ONE, _check_1f1b)
