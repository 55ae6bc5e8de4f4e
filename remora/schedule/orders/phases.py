"""A rank's order written as a row of phases, each some tasks that repeat.

A task of a phase is a kind and a chunk (which of the rank's stages it works on), packed into one
number. Which micro-batch it is follows by counting: the k-th forward of a chunk on its rank is
that of the k-th micro-batch to pass the chunk, and the same goes for backwards.

Letters: p ranks, m micro-batches, n tasks of one rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.schedule.orders.order import Order, TaskKind

__all__ = [
    "B0",
    "B1",
    "F0",
    "F1",
    "I0",
    "I1",
    "W0",
    "W1",
    "Counted",
    "Phase",
    "Placed",
    "W",
    "count",
    "order_of_ranks",
]

# Packed as 4 * chunk + kind: forward, backward, input gradients, weight gradients.
F0, B0, I0, W0, F1, B1, I1, W1 = range(8)
# The weight gradients that have waited longest, of either chunk.
W = 8

Phase = tuple[Sequence[int], int]
"""Tasks, and how often they repeat."""


class Counted(NamedTuple):
    """Tasks of one rank, in order."""

    kind: NDArray[np.int8]  # [n]
    chunk: NDArray[np.int8]  # [n]
    number: NDArray[np.int32]  # [n], how many of the same chunk and direction the rank ran before


class Placed(NamedTuple):
    """Tasks of one rank, in order, as an ``Order`` has them."""

    kind: NDArray[np.int8]  # [n]
    stage: NDArray[np.int32]  # [n]
    micro_batch: NDArray[np.int32]  # [n]


def count(phases: Iterable[Phase], most: int) -> Counted:
    """Return the tasks of a rank, numbered; those with a number of ``most`` or more are left out.

    Args:
        phases: what the rank does; phases may go on after the last micro-batch.
        most: micro-batches that pass each chunk.
    """
    codes = np.concatenate([np.tile(np.array(tasks, np.int8), times) for tasks, times in phases])
    waited_longest = codes == W
    if waited_longest.any():
        inputs = codes[~waited_longest & (codes % 4 == I0)]
        codes[waited_longest] = inputs[: waited_longest.sum()] + (W0 - I0)
    kind, chunk = codes % 4, codes // 4
    number = _numbers(kind, chunk)
    real = number < most
    return Counted(kind[real], chunk[real], number[real])


def _numbers(kind: NDArray[np.int8], chunk: NDArray[np.int8]) -> NDArray[np.int32]:
    """Count forwards and backwards of each chunk; weight gradients follow their input gradients."""
    number = np.empty(len(kind), dtype=np.int32)
    for own in (chunk == 0, chunk == 1):
        weights = own & (kind == TaskKind.BACKWARD_WEIGHT)
        forwards = own & (kind == TaskKind.FORWARD)
        backwards = own & ~forwards & ~weights
        number[forwards] = np.arange(forwards.sum())
        number[backwards] = np.arange(backwards.sum())
        number[weights] = number[own & (kind == TaskKind.BACKWARD_INPUT)]
    return number


def order_of_ranks(ranks: Iterable[Placed], stage_rank: Sequence[int]) -> Order:
    """Return the order that consists of the tasks of every rank, rank 0 first.

    Args:
        ranks: tasks of every rank.  # [p]
        stage_rank: rank of every stage.  # [num_stages]
    """
    kinds, stages, micro_batches = zip(*ranks, strict=True)
    return Order(
        kind=np.concatenate(kinds),
        stage=np.concatenate(stages),
        micro_batch=np.concatenate(micro_batches),
        start=np.cumsum([0, *map(len, kinds)], dtype=np.int64),
        stage_rank=np.array(stage_rank, dtype=np.int32),
    )
