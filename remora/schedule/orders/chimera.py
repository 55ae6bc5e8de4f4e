"""Chimera (Li and Hoefler 2021): two copies of the model run through the ranks in opposite ways.

Stages 0 to p-1 are the copy that runs down the ranks, stage s on rank s; stages p to 2p-1 the
copy that runs up, stage p+s on rank p-1-s. Half of the micro-batches go each way.

With forwards and backwards of one slot each, every micro-batch flows without a stop, and a copy
takes one in every second slot: forwards of one copy, and backwards of the other, meet a rank in
slots of the same parity, one after the other, so nothing collides. p micro-batches fill, on every
rank, p slots in a row of either parity, so the next p fit exactly 2p slots later: a step of m
micro-batches ends after 2m+p-2 slots, for every multiple m of p. The order of a rank is the order
of these slots.
"""

from __future__ import annotations

import numpy as np

from remora.errors import InvalidInputError
from remora.schedule.orders.order import (
    ONE,
    Order,
    OrderRule,
    TaskKind,
    order_of_grid,
    refuse_micro_batches,
)

__all__ = ["RULE"]


def _order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    """Sort the tasks of every rank by the slot in which they run.  # [p, 2m] each."""
    ranks = np.arange(num_ranks)[:, None]
    block, place = np.divmod(np.arange(micro_batches), num_ranks)
    up = place >= num_ranks // 2
    position = np.where(up, num_ranks - 1 - ranks, ranks)  # of the rank in the copy
    entry = 2 * num_ranks * block + 2 * (place % (num_ranks // 2))  # first slot  # [m]
    slot = np.concatenate([entry + position, entry + 2 * num_ranks - 1 - position], axis=1)
    by_slot = np.argsort(slot, axis=1)
    stage = np.take_along_axis(np.tile(position + num_ranks * up, 2), by_slot, axis=1)
    kind = np.where(by_slot < micro_batches, TaskKind.FORWARD, TaskKind.BACKWARD)
    stage_rank = np.concatenate([np.arange(num_ranks), np.arange(num_ranks)[::-1]])
    return order_of_grid(kind, stage, by_slot % micro_batches, stage_rank)


def _check(num_ranks: int, micro_batches: int) -> None:
    if num_ranks % 2:
        raise InvalidInputError(
            f"the pipeline has {num_ranks} ranks; allowed with pipeline.kind='chimera': "
            "even numbers"
        )
    if micro_batches % num_ranks:
        raise refuse_micro_batches(
            micro_batches,
            f"with pipeline.kind='chimera' on {num_ranks} ranks: multiples of {num_ranks}",
        )


RULE = OrderRule(_order, ONE, _check, model_copies=2)
