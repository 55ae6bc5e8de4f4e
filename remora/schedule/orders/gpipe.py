"""GPipe (Huang et al. 2019): all forwards, then all backwards."""

from __future__ import annotations

import numpy as np

from remora.schedule.orders.order import ONE, Order, OrderRule, TaskKind, order_of_grid

__all__ = ["RULE"]


def _order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    """Micro-batches ascend in both directions."""
    kind = np.array([TaskKind.FORWARD, TaskKind.BACKWARD]).repeat(micro_batches)
    micro_batch = np.tile(np.arange(micro_batches), 2)
    ranks = np.arange(num_ranks)
    return order_of_grid(kind[None], ranks[:, None], micro_batch[None], stage_rank=ranks)


RULE = OrderRule(_order, ONE)
