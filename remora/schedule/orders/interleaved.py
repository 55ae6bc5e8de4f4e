"""Interleaved 1F1B (Narayanan et al. 2021): v stages per rank, stage s on rank s mod p.

Micro-batches enter in rounds of about p; a round passes all chunks of a rank before the next
enters. So a rank runs forwards in a fixed sequence of (chunk, micro-batch), backwards in the
same with the chunks turned round, and warms up, alternates and runs out as in 1F1B.
"""

from __future__ import annotations

import numpy as np

from remora.schedule.orders.order import (
    ANY_FROM_2,
    Order,
    OrderRule,
    TaskKind,
    refuse_micro_batches,
)
from remora.schedule.orders.phases import B0, F0, Placed, count, order_of_ranks

__all__ = ["RULE"]


def _order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    per_round = micro_batches // _rounds(num_ranks, micro_batches)
    passes = micro_batches * chunks

    def tasks(rank: int) -> Placed:
        warm_up = min((chunks - 1) * per_round + 2 * (num_ranks - 1 - rank), passes)
        phases = ((F0,), warm_up), ((F0, B0), passes - warm_up), ((B0,), warm_up)
        kind, _, number = count(phases, passes)
        chunk = number // per_round % chunks
        chunk = np.where(kind == TaskKind.FORWARD, chunk, chunks - 1 - chunk)
        micro_batch = number // (per_round * chunks) * per_round + number % per_round
        return Placed(kind, chunk * num_ranks + rank, micro_batch)

    return order_of_ranks(map(tasks, range(num_ranks)), [*range(num_ranks)] * chunks)


def _rounds(num_ranks: int, micro_batches: int) -> int:
    return max(1, micro_batches // num_ranks)


def _check(num_ranks: int, micro_batches: int) -> None:
    rounds = _rounds(num_ranks, micro_batches)
    if micro_batches % rounds:
        raise refuse_micro_batches(
            micro_batches,
            f"with pipeline.kind='interleaved_1f1b' on {num_ranks} ranks: multiples of the number "
            f"of rounds, micro_batches // {num_ranks} = {rounds}; every multiple of {num_ranks} is",
        )


RULE = OrderRule("interleaved 1F1B", _order, ANY_FROM_2, _check)
