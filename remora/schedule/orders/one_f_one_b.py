"""One forward, one backward (Narayanan et al. 2019), plain and interleaved (2021).

Every rank runs some forwards to warm up, then a forward and a backward in turn, then the
backwards that are left. The kinds differ in how long a rank warms up and in which chunk and
micro-batch its k-th forward is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.schedule.orders.order import (
    ANY_FROM_2,
    ONE,
    Order,
    OrderRule,
    TaskKind,
    order_of_grid,
    refuse_micro_batches,
)

__all__ = ["INTERLEAVED", "PLAIN"]

_Grid = NDArray[np.int32]


def _in_turn(warm_up: _Grid, per_direction: int) -> tuple[_Grid, _Grid]:
    """Return kind and number, both [p, 2n], of the tasks of every rank.

    Args:
        warm_up: forwards before the first forward-backward pair, at most n.  # [p]
        per_direction: n, the forwards (and as many backwards) of a rank.

    Returns:
        ``TaskKind`` of each task, and how many of that kind the rank ran before it.
    """
    position = np.arange(2 * per_direction, dtype=np.int32)[None]  # [1, 2n]
    first_pair, behind_pairs = warm_up[:, None], 2 * per_direction - warm_up[:, None]
    since_pair = position - first_pair
    in_pairs = (since_pair >= 0) & (position < behind_pairs)
    backward = (position >= behind_pairs) | (in_pairs & (since_pair % 2 == 1))
    paired = since_pair // 2 + np.where(backward, 0, first_pair)
    number = np.where(in_pairs, paired, np.where(backward, position - per_direction, position))
    return np.where(backward, TaskKind.BACKWARD, TaskKind.FORWARD).astype(np.int32), number


def _plain_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    """A rank warms up until its first micro-batch is about to come back."""
    ranks = np.arange(num_ranks, dtype=np.int32)
    kind, micro_batch = _in_turn(num_ranks - 1 - ranks, micro_batches)
    return order_of_grid(kind, ranks[:, None], micro_batch, stage_rank=ranks)


def _check_plain(num_ranks: int, micro_batches: int) -> None:
    if micro_batches < num_ranks:
        raise refuse_micro_batches(
            micro_batches, f"with pipeline.kind='1f1b' on {num_ranks} ranks: at least {num_ranks}"
        )


def _interleaved_order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    """Rounds of about p micro-batches pass all chunks of a rank before the next round enters."""
    per_round = micro_batches // _rounds(num_ranks, micro_batches)
    per_direction = micro_batches * chunks
    ranks = np.arange(num_ranks, dtype=np.int32)
    warm_up = (chunks - 1) * per_round + 2 * (num_ranks - 1 - ranks)
    kind, number = _in_turn(np.minimum(warm_up, per_direction), per_direction)
    chunk = number // per_round % chunks
    chunk = np.where(kind == TaskKind.BACKWARD, chunks - 1 - chunk, chunk)
    micro_batch = number // (per_round * chunks) * per_round + number % per_round
    stage_rank = np.arange(num_ranks * chunks) % num_ranks
    return order_of_grid(kind, chunk * num_ranks + ranks[:, None], micro_batch, stage_rank)


def _rounds(num_ranks: int, micro_batches: int) -> int:
    return max(1, micro_batches // num_ranks)


def _check_interleaved(num_ranks: int, micro_batches: int) -> None:
    rounds = _rounds(num_ranks, micro_batches)
    if micro_batches % rounds:
        raise refuse_micro_batches(
            micro_batches,
            f"with pipeline.kind='interleaved_1f1b' on {num_ranks} ranks: multiples of the number "
            f"of rounds, micro_batches // {num_ranks} = {rounds}, for example multiples of "
            f"{num_ranks}",
        )


PLAIN = OrderRule(_plain_order, ONE, _check_plain)
INTERLEAVED = OrderRule(_interleaved_order, ANY_FROM_2, _check_interleaved)
