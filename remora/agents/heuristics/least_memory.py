"""The schedule of least memory that any scheduler here falls back on; it ignores the budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from remora.agents.evaluation import Evaluator, Score
from remora.agents.heuristics.neighbours import descend
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import flatten
from remora.schedule.schedule import Action, Schedule

__all__ = ["find_fitting", "leaner"]


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
    yield space.floor
    if not space.can_offload:
        return
    spans = [replace(span, offload=True) for span in flatten(space.floor.memory.groups)]
    yield space.with_parts(space.floor, spans=spans, window=1, distance=1)
    offload = space.with_action(Action.OFFLOAD)
    yield space.build(offload, window=1, distance=1)
    yield space.build(offload, spans=spans, window=1, distance=1)
