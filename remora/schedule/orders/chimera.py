"""Chimera (Li and Hoefler 2021): two copies of the model run through the ranks in opposite ways.

Stages 0 to p-1 are the copy that runs down the ranks, stage s on rank s; stages p to 2p-1 the
copy that runs up, stage p+s on rank p-1-s. The first half of the micro-batches goes down, the
second half up.

With m = p this is the schedule of the paper. More micro-batches could follow in blocks of p, the
forwards of a block in the gaps that the backwards of the block before leave. That fits without
loss when a backward takes as long as a forward, but then the ranks in the middle run several
forwards, then several backwards, while those outside alternate, and when a backward takes longer
each waits for the other in every block. Here all ranks alternate in the same steady state, which
costs no more activations on the rank with most of them (p), and a step takes m(F+B) + (p-2)B for
any B >= F. For B = F no order is faster: the two ranks in the middle get their first micro-batch
after p/2-1 forwards, and p/2-1 backwards follow their last.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from remora.errors import InvalidInputError
from remora.schedule.orders.order import ONE, Order, OrderRule, refuse_micro_batches
from remora.schedule.orders.phases import B0, B1, F0, F1, Phase, Placed, count, order_of_ranks

__all__ = ["RULE"]


def _order(num_ranks: int, micro_batches: int, chunks: int) -> Order:
    """Chunk 0 of a rank is its stage of the copy that starts nearer to it."""
    per_copy = micro_batches // 2

    def tasks(rank: int) -> Placed:
        mirrored = num_ranks - 1 - rank
        counted = count(_phases(min(rank, mirrored), num_ranks, per_copy), per_copy)
        upward = counted.chunk == (0 if rank > mirrored else 1)
        stage = np.where(upward, num_ranks + mirrored, rank).astype(np.int32)
        micro_batch = counted.number + np.where(upward, per_copy, 0).astype(np.int32)
        return Placed(counted.kind, stage, micro_batch)

    stage_rank = [*range(num_ranks), *reversed(range(num_ranks))]
    return order_of_ranks(map(tasks, range(num_ranks)), stage_rank)


def _phases(position: int, num_ranks: int, per_copy: int) -> Iterable[Phase]:
    """Let the near copy in until the far one arrives, then a forward and a backward of each.

    Args:
        position: of the rank's stage in the copy that starts nearer, below p/2.
        num_ranks: p.
        per_copy: micro-batches of one copy, m/2; those that a phase names beyond are left out.
    """
    to_middle = num_ranks // 2 - position
    return (
        ((F0,), 2 * to_middle - 1),
        ((F1, F0), position),
        ((F1, B1), to_middle),
        ((F0, B0, F1, B1), per_copy - num_ranks // 2),
        ((B0, B1), position),
        ((B0,), to_middle),
    )


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


RULE = OrderRule("Chimera", _order, ONE, _check, model_copies=2)
