"""Which stages a rank has, which weights they read, and what it sends to whom."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from remora.executor.pipeline.forward_tape import ForwardTape
from remora.executor.pipeline.letters import Post
from remora.executor.pipeline.parts import StagePart, cut_tape
from remora.executor.pipeline.stage_tensors import StageTensors
from remora.graph.model_graph import ModelGraph
from remora.schedule.orders import Order, TaskKind, pipeline_order
from remora.schedule.schedule import PipelinePlan

__all__ = ["RankLayout", "layout_of_rank"]


@dataclass(frozen=True)
class RankLayout:
    """One rank of a pipeline.

    Attributes:
        tasks: of the rank, in order: (kind, stage, micro-batch).
        parts: its stages, by their numbers in the order of tasks.
        num_stages: of one copy of the model.
        last: micro-batch of the last backward, or second half, of every stage of the pipeline.
        post: letters between all ranks.
        names: weights of every rank, by their first name in the model.  # [num_ranks]
        parameters: of this rank's stages, by name.
        buffers: names of the same stages' buffers.
    """

    tasks: tuple[tuple[TaskKind, int, int], ...]
    parts: dict[int, StagePart]
    num_stages: int
    last: dict[int, int]
    post: Post
    names: tuple[tuple[str, ...], ...]
    parameters: dict[str, nn.Parameter]
    buffers: tuple[str, ...]


def layout_of_rank(
    model: nn.Module, tape: ForwardTape, graph: ModelGraph, pipeline: PipelinePlan, rank: int
) -> RankLayout:
    """Look up what one rank of a pipeline does.

    Args:
        model: the whole model.
        tape: its forward on one micro-batch.
        graph: of one micro-batch.
        pipeline: valid for that graph.
        rank: in the pipeline.
    """
    order = pipeline_order(
        pipeline.kind,
        pipeline.num_ranks,
        pipeline.micro_batches,
        pipeline.chunks,
        graph.forward_only,
    )
    parts, messages = cut_tape(tape, pipeline.spans(len(graph.units)))
    on_rank = [
        {number: parts[number % len(parts)] for number in _stages_on(order, other)}
        for other in range(pipeline.num_ranks)
    ]
    tensors = StageTensors(model, graph)
    per_rank = [
        {name: p for part in stages.values() for name, p in tensors.parameters(part).items()}
        for stages in on_rank
    ]
    return RankLayout(
        tasks=tuple(order.tasks_of(rank)),
        parts=on_rank[rank],
        num_stages=len(parts),
        last=_last_backwards(order),
        post=Post(order, messages, len(parts)),
        names=tuple(tuple(sorted(own)) for own in per_rank),
        parameters=per_rank[rank],
        buffers=tuple(dict.fromkeys(n for p in on_rank[rank].values() for n in tensors.buffers(p))),
    )


def _stages_on(order: Order, rank: int) -> list[int]:
    return [number for number, at in enumerate(order.stage_rank.tolist()) if at == rank]


def _last_backwards(order: Order) -> dict[int, int]:
    last: dict[int, int] = {}
    for rank in range(order.num_ranks):
        for kind, stage, micro_batch in order.tasks_of(rank):
            if kind in (TaskKind.BACKWARD, TaskKind.BACKWARD_WEIGHT):
                last[stage] = micro_batch
    return last
