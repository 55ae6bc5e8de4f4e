"""How many micro-batches every stage has in memory while its rank works, by kind of pipeline.

A micro-batch is *held* from the start of its forward in a stage to the end of its backward. Where
the backward is split, it is *restored* from the start of the first half to the end of the second:
everything that its units saved is there again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import KINDS
from remora.schedule.orders import TaskKind, model_copies, pipeline_order, splits_backward

__all__ = ["NUM_CORNERS", "StageOrder", "stage_order"]

Ints = NDArray[np.int64]

NUM_CORNERS = 4
"""Rows of counts that stand for all moments of a rank."""


@dataclass(frozen=True, eq=False)
class StageOrder:
    """The stages of one copy of the model; S of them.

    Ranks that hold the same stages of different copies count as one.

    Attributes:
        rank: of every stage.  # [S]
        corners: rows that differ, of every stage's rank.  # [S]
        counts: micro-batches held and restored at most, by row; each moment of a rank is below
            one row of all its stages.  # [S][NUM_CORNERS][2]
        passes: micro-batches that pass a stage on one rank.
        splits: whether some backwards come in halves.
        whole: whether some backwards do not.
        copies: of the model.
    """

    rank: Ints
    corners: Ints
    counts: Ints
    passes: int
    splits: bool
    whole: bool
    copies: int


@lru_cache(maxsize=512)
def stage_order(kind: int, num_ranks: int, micro_batches: int) -> StageOrder:
    """Count what is in memory.

    Args:
        kind: place in ``KINDS``.
        num_ranks: of one replica.
        micro_batches: of one step.

    Raises:
        InvalidInputError: there is no such order.
    """
    name, chunks = KINDS[kind]
    order = pipeline_order(name, num_ranks, micro_batches, chunks)
    copies = model_copies(name)
    stages = order.num_stages // copies
    rank = order.stage_rank[:stages].astype(np.int64)
    if copies > 1:
        rank = np.minimum(rank, rank[::-1])
    corners = np.zeros(stages, dtype=np.int64)
    counts = np.zeros((stages, NUM_CORNERS, 2), dtype=np.int64)
    for number in np.unique(rank).tolist():
        own = np.flatnonzero(rank == number)
        moments = _moments(order.tasks_of(number), own.tolist(), stages)
        rows = _corners(moments)
        corners[own] = len(rows)
        counts[own, : len(rows)] = rows.transpose(1, 0, 2)
    return StageOrder(
        rank=rank,
        corners=corners,
        counts=counts,
        passes=micro_batches // copies,
        splits=splits_backward(name),
        whole=bool((order.kind == TaskKind.BACKWARD).any()),
        copies=copies,
    )


def _moments(tasks: list[tuple[TaskKind, int, int]], own: list[int], stages: int) -> Ints:
    """Counts of every stage of a rank during each of its tasks.  # [tasks][own][2]."""
    now = np.zeros((len(own), 2), dtype=np.int64)
    place = {stage: number for number, stage in enumerate(own)}
    found = []
    for kind, number, _ in tasks:
        stage = place[number % stages]
        if kind is TaskKind.FORWARD:
            now[stage, 0] += 1
        elif kind is TaskKind.BACKWARD_INPUT:
            now[stage] += (-1, 1)
        found.append(now.copy())
        if kind is TaskKind.BACKWARD:
            now[stage, 0] -= 1
        elif kind is TaskKind.BACKWARD_WEIGHT:
            now[stage, 1] -= 1
    return np.unique(np.array(found), axis=0)


def _corners(moments: Ints) -> Ints:
    """At most ``NUM_CORNERS`` rows that every moment is below one of.  # [corners][own][2]."""
    rows = np.array([row for row in moments if not _covered(row, moments)])
    while len(rows) > NUM_CORNERS:
        joined = np.maximum(rows[:, None], rows[None])  # [rows][rows][own][2]
        sums = rows.sum(axis=(1, 2))
        growth = 2 * joined.sum(axis=(2, 3)) - sums[:, None] - sums[None]
        # Of equal pairs the first one, the later row named first.
        growth[np.triu_indices(len(rows))] = np.iinfo(np.int64).max
        first, second = divmod(int(growth.argmin()), len(rows))
        rest = np.delete(rows, (first, second), axis=0)
        rows = np.concatenate((rest, joined[first, second][None]))
    return rows


def _covered(row: Ints, moments: Ints) -> bool:
    """Whether another moment has as much of everything; what is restored takes no less."""
    above = (moments.sum(axis=2) >= row.sum(axis=1)).all(axis=1)
    above &= (moments[:, :, 1] >= row[:, 1]).all(axis=1)
    return bool((above & (moments != row).any(axis=(1, 2))).any())
