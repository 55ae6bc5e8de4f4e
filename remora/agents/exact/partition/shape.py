"""The two-level dynamic program on one shape of pipeline.

Where several stages share a rank, a stage may take more time, or more memory, if the others of
its rank take less. The program knows one limit for all stages. Either it stays so, and all stages
come out even, which is what the orders of such kinds are made for. Or each stage is measured by
what it takes beyond a part of its own, and these parts sum up to 0 on every rank. With the parts
set from the last solution the limit says the truth about it, so that the next solution is no
worse: a majorise-minimise iteration (Hunter, Lange, "A Tutorial on MM Algorithms", 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.agents.exact.partition.loads import StageLoads, fill_share, stage_loads
from remora.agents.exact.partition.messages import message_seconds
from remora.agents.exact.partition.program import (
    Partition,
    leanest_seconds,
    least_stage_bytes,
    partition_front,
    stage_seconds,
)
from remora.agents.exact.partition.ranges import RangeTables
from remora.agents.exact.partition.stage_menu import StageMenu
from remora.agents.heuristics.shapes import Shape
from remora.schedule.problem import Problem

__all__ = ["ShapeProgram"]

_ROUNDS = 8

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ShapeProgram:
    """One kind, number of ranks, chunks and micro-batches.

    Attributes:
        problem: what is planned.
        shape: of the pipeline.
        tables, menu: of the problem at the shape's number of micro-batches.
        slots: memory slots of the inner level.
        even: whether stages that share a rank are held to the same limit, without parts.
    """

    problem: Problem
    shape: Shape
    tables: RangeTables
    menu: StageMenu
    slots: int
    even: bool

    @cached_property
    def loads(self) -> StageLoads:
        """What the order of tasks asks of the stages."""
        shape = self.shape
        return stage_loads(shape.kind, shape.num_ranks, shape.micro_batches, shape.chunks)

    @property
    def least_s(self) -> float:
        """No estimate is below: stages perfectly balanced, nothing run again, no messages."""
        seconds = self.tables.seconds
        whole_s, largest_s = seconds[0, -1], np.diag(seconds, 1).max()
        slowest_s = max(whole_s / self.loads.num_stages, largest_s / self.loads.stages_per_rank)
        return self.estimate_s(Partition((), float(whole_s), float(slowest_s)))

    def estimate_s(self, partition: Partition) -> float:
        """Seconds of all micro-batches."""
        shape = self.shape
        fill = fill_share(shape.kind, shape.num_ranks, shape.chunks)
        return partition.estimate_s(shape.micro_batches, fill, shape.chunks)

    def within(self, limits_bytes: Sequence[float], parts_s: Floats) -> list[Partition]:
        """All trade-offs within these limits, the least estimate first.

        Args:
            limits_bytes: memory of every stage.  # [num_stages]
            parts_s: what a stage may take beyond the others of its rank.  # [num_stages]
        """
        stage = stage_seconds(self.tables, self.menu, self.loads, limits_bytes, self.slots)
        front = partition_front(stage - parts_s[:, None, None], self._message_s)
        return sorted(front, key=self.estimate_s)

    @cached_property
    def ideal(self) -> Partition:
        """The best partition if memory had no limit."""
        stage = np.repeat(self.tables.seconds[None], self.loads.num_stages, axis=0)
        return self._settled(stage, self._message_s, self.estimate_s)[0]

    @cached_property
    def leanest(self) -> tuple[Partition, Partition]:
        """Those whose fullest rank needs the least memory: of little memory in all, and fast."""
        least = least_stage_bytes(self.tables, self.menu, self.loads)
        small, parts = self._settled(least, None, lambda partition: partition.slowest)
        fits = least - parts[:, None, None] <= small.slowest
        stage = np.where(fits, leanest_seconds(self.tables, self.menu), np.inf)
        return small, self._settled(stage, self._message_s, self.estimate_s)[0]

    def parts(self, values: Floats) -> Floats:
        """What each stage takes beyond the mean of its rank; 0 for even ones.  # [num_stages]."""
        found = np.zeros(self.loads.num_stages)
        for team in () if self.even else self.loads.teams:
            stages = list(team.stages)
            found[stages] = values[stages] - values[stages].mean()
        return found

    def stage_s(self, cuts: Sequence[int], chosen: Ints) -> Floats:
        """Seconds of one micro-batch in every stage.  # [num_stages].

        Args:
            cuts: of the pipeline.  # [num_stages - 1]
            chosen: index into the menu of every unit.  # [num_units]
        """
        extra = self.menu.extra_s[np.arange(len(chosen)), chosen]
        starts, ends = self._borders(cuts)
        added: Floats = np.add.reduceat(extra, starts) + self.tables.seconds[starts, ends]
        return added

    def stage_bytes(self, cuts: Sequence[int], chosen: Ints) -> Floats:
        """Bytes of every stage in the count of the program.  # [num_stages].

        The arguments are those of :meth:`stage_s`.
        """
        tables, starts, ends = self.tables, *self._borders(cuts)
        held = self.menu.held_bytes[np.arange(len(chosen)), chosen]
        now = np.array(self.loads.in_flight) * np.add.reduceat(held, starts)
        now = np.maximum(now + tables.work_bytes[starts, ends], tables.step_bytes[starts, ends])
        always = tables.state_bytes[starts, ends]
        every_pass = np.array(self.loads.passes) * tables.pass_bytes[starts, ends]
        total: Floats = always + every_pass + now
        return total

    def _borders(self, cuts: Sequence[int]) -> tuple[Ints, Ints]:
        """First unit of every stage and the one after its last.  # [num_stages] each."""
        borders = np.array([0, *cuts, self.tables.num_units], dtype=np.int64)
        return borders[:-1], borders[1:]

    def _settled(
        self, stage: Floats, message: Floats | None, key: Callable[[Partition], float]
    ) -> tuple[Partition, Floats]:
        """The best partition and the parts under which it was found, parts moved until they stay.

        Args:
            stage: what every range takes as every stage.  # [num_stages, L + 1, L + 1]
            message: added to the path.  # [num_stages, L + 1, L + 1]
            key: what to minimise.
        """
        parts = np.zeros(self.loads.num_stages)
        best = min(partition_front(stage, message), key=key)
        for _ in range(0 if self.even else _ROUNDS):
            starts, ends = self._borders(best.cuts)
            taken = stage[np.arange(len(starts)), starts, ends]
            moved = self.parts(taken)
            found = min(partition_front(stage - moved[:, None, None], message), key=key)
            if key(found) >= key(best):
                break
            best, parts = found, moved
        return best, parts

    @cached_property
    def _message_s(self) -> Floats:
        return message_seconds(self.problem, self.shape.num_ranks, self.loads, self.tables)
