"""The pipelines that a problem allows, apart from where they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remora.errors import InvalidInputError
from remora.schedule.orders import allowed_chunks, check_pipeline, model_copies, registered_kinds
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan

__all__ = ["Shape", "shape_of", "shapes_of"]

_MOST_CHUNKS = 4
"""More stages per rank cost more in messages than they save in waiting."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Kind, ranks, stages per rank and micro-batches of a pipeline."""

    kind: PipelineKind
    num_ranks: int
    chunks: int
    micro_batches: int

    @property
    def num_stages(self) -> int:
        """Stages that the units are cut into."""
        return self.num_ranks * self.chunks

    def cut(self, cuts: tuple[int, ...]) -> PipelinePlan:
        """The pipeline with these cuts.  # [num_stages - 1]."""
        return PipelinePlan(self.kind, cuts, self.chunks, self.micro_batches)


def shape_of(pipeline: PipelinePlan) -> Shape:
    """The shape of a pipeline."""
    return Shape(pipeline.kind, pipeline.num_ranks, pipeline.chunks, pipeline.micro_batches)


def shapes_of(problem: Problem) -> tuple[Shape, ...]:
    """Every shape that is allowed, most ranks first, then in order of kind and micro-batches."""
    units = len(problem.graph.units)
    statistics = any(unit.mutated_buffers for unit in problem.graph.units)
    counts = sorted(problem.graphs) if problem.micro_batches is None else [problem.micro_batches]
    found = []
    for num_ranks in problem.pipeline_sizes:
        for kind in registered_kinds():
            if (kind is PipelineKind.NONE) != (num_ranks == 1):
                continue
            if statistics and model_copies(kind) > 1:
                continue
            for chunks in _chunks(kind, units // num_ranks):
                shapes = [Shape(kind, num_ranks, chunks, count) for count in counts]
                found += [shape for shape in shapes if _allowed(shape)]
    return tuple(found)


def _chunks(kind: PipelineKind, most: int) -> Iterator[int]:
    for chunks in allowed_chunks(kind):
        if chunks > min(most, _MOST_CHUNKS):
            return
        yield chunks


def _allowed(shape: Shape) -> bool:
    try:
        check_pipeline(shape.kind, shape.num_ranks, shape.micro_batches, shape.chunks)
    except InvalidInputError:
        return False
    return True
