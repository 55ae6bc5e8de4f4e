"""No pipeline: one rank, one stage, gradients accumulated over the micro-batches."""

from __future__ import annotations

import numpy as np

from remora.errors import InvalidInputError
from remora.schedule.orders.order import ONE, Order, OrderRule, TaskKind, order_of_grid

__all__ = ["RULE"]


def _order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    """Forward and backward of one micro-batch after the other."""
    kind = np.tile(np.array([TaskKind.FORWARD, TaskKind.BACKWARD]), micro_batches)
    micro_batch = np.arange(micro_batches).repeat(2)
    zero = np.zeros(1, dtype=np.int32)
    return order_of_grid(kind[None], zero[None], micro_batch[None], stage_rank=zero)


def _check(num_ranks: int, micro_batches: int) -> None:
    if num_ranks != 1:
        raise InvalidInputError(
            f"the pipeline has {num_ranks} ranks; allowed with pipeline.kind='none': 1"
        )


RULE = OrderRule(_order, ONE, _check)
