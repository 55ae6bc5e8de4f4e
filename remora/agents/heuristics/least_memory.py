"""The schedule of least memory that any scheduler here falls back on; it ignores the budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from remora.agents.evaluation import Evaluator, Score
from remora.agents.heuristics.cut_moves import reshape
from remora.agents.heuristics.neighbours import descend
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import flatten
from remora.schedule.schedule import Action, PipelinePlan, Schedule
from remora.simulator.compiled import simulator_of

__all__ = ["find_fitting", "leaner"]


_LEAN_PIPELINES = 3


def find_fitting(space: Space, evaluator: Evaluator) -> Schedule | None:
    """Go down in memory by a fixed path until something fits the budget; None if nothing does.

    The path does not depend on the budget: whatever peak it ends at, that peak given as the budget
    makes it succeed. So the smallest budget named in an error is one that works.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    starts = []
    for schedule in _starts(space):
        if evaluator.score(schedule).feasible:
            return schedule
        starts.append(schedule)
    leanest = min(starts, key=lambda schedule: evaluator.score(schedule).peak_bytes)
    end = descend(space, evaluator, leanest, _leaner_until_feasible)
    return end if evaluator.score(end).feasible else None


def leaner(new: Score, old: Score) -> bool:
    """Whether ``new`` needs less memory, or the same and less time."""
    return (new.peak_bytes, new.step_time_s) < (old.peak_bytes, old.step_time_s)


def _leaner_until_feasible(new: Score, old: Score) -> bool:
    return not old.feasible and leaner(new, old)


def _starts(space: Space) -> Iterator[Schedule]:
    for pipeline in [space.pipeline, *_lean_pipelines(space)]:
        floor = _floor_of(space, pipeline)
        yield floor
        if space.can_offload:
            yield from _offloaded(space, floor)


def _offloaded(space: Space, floor: Schedule) -> Iterator[Schedule]:
    spans = [replace(span, offload=True) for span in flatten(floor.memory.groups)]
    yield space.with_parts(floor, spans=spans, window=1, distance=1)
    offload = space.with_action(Action.OFFLOAD)
    yield space.with_parts(floor, options=offload, spans=(), window=1, distance=1)
    yield space.with_parts(floor, options=offload, spans=spans, window=1, distance=1)


def _floor_of(space: Space, pipeline: PipelinePlan) -> Schedule:
    if pipeline == space.pipeline:
        return space.floor
    return Space(space.problem, pipeline, space.allowed, space.shapes).floor


def _lean_pipelines(space: Space) -> list[PipelinePlan]:
    """The few pipelines of least memory if every unit is recomputed by itself."""
    if len(space.shapes) < 2:
        return []
    again = space.build(space.with_action(Action.RECOMPUTE))
    trials = [reshape(space, again, shape) for shape in space.shapes]
    figures = simulator_of(space.problem).batch(trials)
    order = sorted(range(len(trials)), key=lambda i: (figures[i].max_peak_bytes, i))
    pipelines = [trials[i].pipeline for i in order[:_LEAN_PIPELINES]]
    return [pipeline for pipeline in pipelines if pipeline != space.pipeline]
