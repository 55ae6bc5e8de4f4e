"""What the order of tasks of a pipeline asks of its stages: micro-batches in flight, ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from remora.schedule.orders import Order, TaskKind, model_copies, pipeline_order
from remora.schedule.schedule import PipelineKind

__all__ = ["StageLoads", "Team", "fill_share", "stage_loads"]

_FINISHED = (TaskKind.BACKWARD, TaskKind.BACKWARD_WEIGHT)


@dataclass(frozen=True, slots=True)
class Team:
    """Stages that share ranks, and those ranks: chimera's pair of stages is on two."""

    stages: tuple[int, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StageLoads:
    """What an order asks of the stages of one copy of the model.

    Attributes:
        in_flight: micro-batches between forward and finished backward.  # [num_stages]
        passes: micro-batches of one step that pass the stage on one rank.  # [num_stages]
        teams: every stage in exactly one.
    """

    in_flight: tuple[float, ...]
    passes: tuple[int, ...]
    teams: tuple[Team, ...]

    @property
    def num_stages(self) -> int:
        """Stages of one copy of the model."""
        return len(self.in_flight)

    @property
    def stages_per_rank(self) -> int:
        """Stages that share the memory of a rank."""
        return max(len(team.stages) for team in self.teams)


@lru_cache(maxsize=256)
def stage_loads(kind: PipelineKind, num_ranks: int, micro_batches: int, chunks: int) -> StageLoads:
    """Count along the order of tasks.

    The stages of one rank are fullest at different times. So that together they count what the
    rank holds at most, each takes part in that number as its own largest count does in the sum of
    those.

    Raises:
        InvalidInputError: the kind has no such order.
    """
    order = pipeline_order(kind, num_ranks, micro_batches, chunks)
    num_stages = order.num_stages // model_copies(kind)
    in_flight, passes = [0.0] * num_stages, [0] * num_stages
    for rank in range(num_ranks):
        own, together = _most_in_flight(order, rank)
        for number, most in own.items():
            stage = number % num_stages
            in_flight[stage] = max(in_flight[stage], most * together / sum(own.values()))
    forwards = order.stage[order.kind == TaskKind.FORWARD]
    for number, count in enumerate(np.bincount(forwards, minlength=order.num_stages).tolist()):
        passes[number % num_stages] = max(passes[number % num_stages], count)
    return StageLoads(tuple(in_flight), tuple(passes), tuple(_teams(order, num_stages)))


def fill_share(kind: PipelineKind, num_ranks: int, chunks: int) -> float:
    """Share of the way of a micro-batch through all stages that the pipeline takes to fill.

    With p equal ranks that take one unit of time for a micro-batch, the makespan of the kind is
    its number of micro-batches and p - 1 times this share (for zero_bubble and dualpipe_v with
    F = B - W = W, for chimera with F = B).
    """
    if kind in (PipelineKind.ZERO_BUBBLE, PipelineKind.DUALPIPE_V):
        return 1 / 6
    if kind is PipelineKind.CHIMERA:
        return (num_ranks - 2) / (2 * (num_ranks - 1))
    return 1 / chunks


def _most_in_flight(order: Order, rank: int) -> tuple[dict[int, int], int]:
    """Largest count of every stage on a rank, and of all of them together."""
    now: dict[int, int] = {}
    most: dict[int, int] = {}
    together = 0
    for kind, stage, _ in order.tasks_of(rank):
        if kind is TaskKind.FORWARD:
            now[stage] = now.get(stage, 0) + 1
        elif kind in _FINISHED:
            now[stage] -= 1
        most[stage] = max(most.get(stage, 0), now[stage])
        together = max(together, sum(now.values()))
    return most, together


def _teams(order: Order, num_stages: int) -> Iterator[Team]:
    by_stages: dict[tuple[int, ...], list[int]] = {}
    for rank in range(order.num_ranks):
        numbers = np.flatnonzero(order.stage_rank == rank).tolist()
        stages = tuple(sorted({number % num_stages for number in numbers}))
        by_stages.setdefault(stages, []).append(rank)
    for stages, ranks in by_stages.items():
        yield Team(stages, tuple(ranks))
