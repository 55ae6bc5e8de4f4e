"""What an order of tasks is, and what a pipeline kind has to say to be one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from remora.errors import InvalidInputError

__all__ = [
    "ANY_FROM_2",
    "ONE",
    "TWO",
    "Order",
    "OrderRule",
    "TaskKind",
    "forwards_of",
    "refuse_micro_batches",
]

# Numbers of chunks that a kind allows.
ONE = range(1, 2)
TWO = range(2, 3)
ANY_FROM_2 = range(2, 2**31)


class TaskKind(IntEnum):
    """What a rank does with one micro-batch on one of its stages."""

    FORWARD = 0
    BACKWARD = 1
    BACKWARD_INPUT = 2
    BACKWARD_WEIGHT = 3


@dataclass(frozen=True, eq=False)
class Order:
    """Tasks of all ranks; rank r runs tasks ``start[r]`` to ``start[r + 1] - 1`` one by one.

    Stages of one copy of the model follow each other in the order of their indices; see
    ``model_copies`` for kinds that have several.

    Attributes:
        kind: ``TaskKind`` of every task.  # [num_tasks]
        stage, micro_batch: what it works on, both from 0.  # [num_tasks]
        start: first task of every rank, and the number of tasks.  # [num_ranks + 1]
        stage_rank: rank of every stage.  # [num_stages]
    """

    kind: NDArray[np.int8]
    stage: NDArray[np.int32]
    micro_batch: NDArray[np.int32]
    start: NDArray[np.int64]
    stage_rank: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Make the arrays read-only, because orders are cached and shared."""
        for array in (self.kind, self.stage, self.micro_batch, self.start, self.stage_rank):
            array.flags.writeable = False

    @property
    def num_ranks(self) -> int:
        """Ranks of one replica."""
        return len(self.start) - 1

    @property
    def num_stages(self) -> int:
        """Stages, those of every copy of the model counted."""
        return len(self.stage_rank)

    @property
    def num_tasks(self) -> int:
        """Tasks of all ranks."""
        return len(self.kind)

    def tasks_of(self, rank: int) -> list[tuple[TaskKind, int, int]]:
        """Return the tasks of one rank in order, each as (kind, stage, micro-batch)."""
        tasks = slice(int(self.start[rank]), int(self.start[rank + 1]))
        kinds = map(TaskKind, self.kind[tasks].tolist())
        stages, micro_batches = self.stage[tasks].tolist(), self.micro_batch[tasks].tolist()
        return list(zip(kinds, stages, micro_batches, strict=True))


def forwards_of(order: Order) -> Order:
    """Return the forwards of an order, in their order."""
    kept = order.kind == TaskKind.FORWARD  # [num_tasks]
    before = np.concatenate([[0], np.cumsum(kept)])  # [num_tasks + 1]
    return Order(
        kind=order.kind[kept],
        stage=order.stage[kept],
        micro_batch=order.micro_batch[kept],
        start=before[order.start].astype(np.int64),
        stage_rank=order.stage_rank,
    )


def _accept(num_ranks: int, micro_batches: int) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class OrderRule:
    """All that a pipeline kind is.

    Attributes:
        title: what people call it.
        order: makes the order of (num_ranks, micro_batches, chunks), which ``check`` accepted.
        chunks: numbers of stages per rank that are allowed.
        check: raises InvalidInputError for (num_ranks, micro_batches) that have no such order.
        splits_backward: some backwards are split into input and weight gradients.
        model_copies: copies of the model, whose stages are numbered one copy after the other.
    """

    title: str
    order: Callable[[int, int, int], Order]
    chunks: range
    check: Callable[[int, int], None] = _accept
    splits_backward: bool = False
    model_copies: int = 1


def refuse_micro_batches(micro_batches: int, allowed: str) -> InvalidInputError:
    """Return the error about a number of micro-batches; ``allowed`` says for what and which."""
    return InvalidInputError(f"pipeline.micro_batches is {micro_batches}; allowed {allowed}")
