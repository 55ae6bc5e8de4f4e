"""Where a schedule puts its stages, and what crosses between them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from remora.schedule.chain import Chain
from remora.schedule.links import Links
from remora.schedule.orders import Order, TaskKind, model_copies, pipeline_order
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.schedule.stage import Stage

__all__ = ["PipelineLayout"]


class PipelineLayout:
    """A valid schedule of a problem, looked up by stage.

    Stages are numbered as in the order of tasks: chimera counts the stages of both directions.

    Args:
        problem: graphs, costs and hardware.
        schedule: valid for it.
    """

    def __init__(self, problem: Problem, schedule: Schedule) -> None:
        pipeline = schedule.pipeline
        self.problem = problem
        self.schedule = schedule
        self.state = schedule.state
        self.chain: Chain = problem.chains[pipeline.micro_batches]
        self.num_ranks = pipeline.num_ranks
        self.replicas = problem.num_groups // self.num_ranks
        self.order: Order = pipeline_order(
            pipeline.kind,
            self.num_ranks,
            pipeline.micro_batches,
            pipeline.chunks,
            problem.graph.forward_only,
        )
        self.links = Links(problem.hardware, self.replicas, problem.tensor_degree)
        self.copies = model_copies(pipeline.kind)
        spans = pipeline.spans(len(self.chain.units))
        unit_stage = tuple(s for s, span in enumerate(spans) for _ in range(*span))
        self._stages = tuple(
            Stage(self.chain, schedule.memory, index, span, unit_stage)
            for index, span in enumerate(spans)
        )

    @property
    def num_stages(self) -> int:
        """Stages of one copy of the model."""
        return len(self._stages)

    def stage(self, number: int) -> Stage:
        """Units of a stage."""
        return self._stages[number % self.num_stages]

    def rank_of(self, number: int) -> int:
        """Rank of a stage."""
        return int(self.order.stage_rank[number])

    def sources(self, number: int, backward: bool) -> Mapping[int, int]:
        """Bytes that a stage receives from each other stage, by its number."""
        return self._messages[backward][number % self.num_stages, number // self.num_stages]

    def targets(self, number: int, backward: bool) -> Mapping[int, int]:
        """Bytes that a stage sends to each other stage, by its number."""
        return self._targets[backward].get(number, {})

    def is_last(self, number: int, micro_batch: int) -> bool:
        """Whether no later backward adds to the gradients of a stage."""
        return self._last_backward[number] == micro_batch

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """Numbers of the stages on a rank."""
        return self._stages_by_rank[rank]

    def receive_bytes(self, rank: int) -> int:
        """Receive buffers of a rank: one per micro-batch and message, for the whole step."""
        return sum(
            self.stage(number).received_bytes * self._micro_batches[number]
            for number in self.stages_of(rank)
        )

    @cached_property
    def _stages_by_rank(self) -> tuple[tuple[int, ...], ...]:
        found: list[list[int]] = [[] for _ in range(self.num_ranks)]
        for number in range(self.copies * self.num_stages):
            found[self.rank_of(number)].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def _messages(self) -> tuple[dict[tuple[int, int], dict[int, int]], ...]:
        """Forward and backward: bytes by source, for every (stage, copy)."""
        tables: tuple[dict[tuple[int, int], dict[int, int]], ...] = ({}, {})
        for index, stage in enumerate(self._stages):
            for copy in range(self.copies):
                offset = copy * self.num_stages
                forward, backward = stage.sources(), stage.gradient_sources()
                tables[0][index, copy] = {s + offset: n for s, n in sorted(forward.items())}
                tables[1][index, copy] = {s + offset: n for s, n in sorted(backward.items())}
        return tables

    @cached_property
    def _targets(self) -> tuple[dict[int, dict[int, int]], ...]:
        tables: tuple[dict[int, dict[int, int]], ...] = ({}, {})
        for table, messages in zip(tables, self._messages, strict=True):
            for (index, copy), sources in messages.items():
                for source, num_bytes in sources.items():
                    target = index + copy * self.num_stages
                    table.setdefault(source, {})[target] = num_bytes
        return tables

    @cached_property
    def _micro_batches(self) -> list[int]:
        """Micro-batches that pass every stage."""
        forwards = self.order.stage[self.order.kind == TaskKind.FORWARD]
        counts = [0] * (self.copies * self.num_stages)
        for stage in forwards.tolist():
            counts[stage] += 1
        return counts

    @cached_property
    def _last_backward(self) -> list[int]:
        """Micro-batch of the last backward, or second half, of every stage."""
        last = [-1] * (self.copies * self.num_stages)
        final = (TaskKind.BACKWARD, TaskKind.BACKWARD_WEIGHT)
        order = self.order
        for kind, stage, micro_batch in zip(
            order.kind.tolist(), order.stage.tolist(), order.micro_batch.tolist(), strict=True
        ):
            if kind in final:
                last[stage] = micro_batch
        return last
