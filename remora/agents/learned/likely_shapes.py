"""The pipelines that are likely to be fastest, whatever a policy thinks of them."""

from __future__ import annotations

from remora.agents.heuristics.shapes import Shape
from remora.envs.actions import KINDS
from remora.envs.pipeline_tables import PipelineShape
from remora.envs.problem_tables import ProblemTables
from remora.simulator.likely import likely_step_s

__all__ = ["likely_shapes"]


def likely_shapes(tables: ProblemTables, count: int) -> list[Shape]:
    """The likeliest pipelines of a problem with its budget, likeliest first; none on one device.

    Args:
        tables: of the problem.
        count: how many.
    """
    budget_bytes = float(tables.problem.budget_bytes)

    def seconds(shape: PipelineShape) -> float:
        kept_s, kept_bytes, again_s, again_bytes = shape.ends
        return likely_step_s(kept_s, kept_bytes, again_s, again_bytes, budget_bytes)

    found = []
    for shape in sorted(tables.shapes, key=seconds)[:count]:
        kind, chunks = KINDS[shape.kind]
        micro_batches = tables.micro_batches[shape.count]
        found.append(Shape(kind, shape.num_ranks, chunks, micro_batches))
    return found
