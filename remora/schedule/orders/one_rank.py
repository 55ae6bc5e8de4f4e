"""No pipeline: one rank, one stage, gradients accumulated over the micro-batches."""

from __future__ import annotations

import numpy as np

from remora.errors import InvalidInputError
from remora.schedule.orders.order import ONE, Order, OrderRule
from remora.schedule.orders.phases import B0, F0, Placed, count, order_of_ranks

__all__ = ["RULE"]


def _order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    """Forward and backward of one micro-batch after the other."""
    kind, _, micro_batch = count([((F0, B0), micro_batches)], micro_batches)
    return order_of_ranks([Placed(kind, np.zeros_like(micro_batch), micro_batch)], stage_rank=[0])


def _check(num_ranks: int, micro_batches: int) -> None:
    if num_ranks != 1:
        raise InvalidInputError(
            f"the pipeline has {num_ranks} ranks; allowed with pipeline.kind='none': 1"
        )


RULE = OrderRule("no pipeline", _order, ONE, _check)
