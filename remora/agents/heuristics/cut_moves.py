"""Changes of the pipeline of a schedule: where it is cut, its kind, its micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from remora.agents.heuristics.shapes import Shape, shape_of
from remora.agents.heuristics.space import Space
from remora.schedule.cuts import balanced_cuts
from remora.schedule.menu import is_recompute
from remora.schedule.schedule import PipelinePlan, Schedule

__all__ = ["cut_shifts", "reshape", "shift_cut"]


def cut_shifts(pipeline: PipelinePlan) -> Iterator[tuple[int, int]]:
    """Every (index of a cut, change by one unit); not all leave a unit in each stage."""
    for index in range(len(pipeline.cuts)):
        yield from ((index, -1), (index, 1))


def shift_cut(space: Space, schedule: Schedule, index: int, change: int) -> Schedule:
    """Move one cut; the schedule itself if a stage would have no unit left."""
    pipeline = schedule.pipeline
    cuts = list(pipeline.cuts)
    if not 0 <= index < len(cuts):
        return schedule
    cuts[index] += change
    borders = (0, *cuts, space.num_units)
    if not borders[index] < cuts[index] < borders[index + 2]:
        return schedule
    return space.with_parts(schedule, pipeline=replace(pipeline, cuts=tuple(cuts)))


def reshape(space: Space, schedule: Schedule, shape: Shape) -> Schedule:
    """Change to another shape; cuts stay where the stages are as many, else they are balanced."""
    pipeline = schedule.pipeline
    if shape_of(pipeline) == shape:
        return schedule
    if shape.num_stages == pipeline.num_stages:
        return space.with_parts(schedule, pipeline=shape.cut(pipeline.cuts))
    cuts = balanced_cuts(unit_seconds(space, schedule, shape.micro_batches), shape.num_stages)
    return space.with_parts(schedule, pipeline=shape.cut(cuts))


def unit_seconds(space: Space, schedule: Schedule, micro_batches: int) -> list[float]:
    """Seconds of every unit, with its recomputation where all of it runs again.  # [num_units]."""
    grouped = {u for group in schedule.memory.groups for u in range(group.start, group.end)}
    units = space.problem.chains[micro_batches].units
    return [
        unit.forward_s
        + unit.backward_s
        + (unit.rerun_s if unit.index in grouped or is_recompute(option) else 0.0)
        for unit, option in zip(units, schedule.memory.options, strict=True)
    ]
