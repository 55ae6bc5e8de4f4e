"""Every schedule one step away from another, in a fixed order, and descent over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from remora.agents.evaluation import Evaluator, Score, uses_host
from remora.agents.heuristics.space import Choice, Space
from remora.agents.heuristics.spans import Span, flatten
from remora.schedule.schedule import Schedule

__all__ = ["change_pace", "clean_up", "descend", "neighbours"]

_MAX_PASSES = 4

Better = Callable[[Score, Score], bool]
Step = Callable[[Space, Schedule], Schedule]
"""One change, applied to whatever the schedule is by then."""


def neighbours(space: Space, schedule: Schedule) -> Iterator[Step]:
    """The changes of one decision: an option, a group, a checkpoint's place, the pace of copies."""
    for unit, choices in enumerate(space.choices):
        for choice in choices:
            yield partial(_choose, unit=unit, choice=choice)
    for span in flatten(schedule.memory.groups):
        if span.end - span.start == 1:
            continue  # a unit by itself: one of its choices above
        yield partial(_replace_span, old=span, new=())
        for start, end in ((span.start + 1, span.end), (span.start, span.end - 1)):
            yield partial(_replace_span, old=span, new=(replace(span, start=start, end=end),))
        if space.can_offload:
            yield partial(_replace_span, old=span, new=(replace(span, offload=not span.offload),))
    if uses_host(schedule):
        for window, distance in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            yield partial(change_pace, window=window, distance=distance)


def descend(space: Space, evaluator: Evaluator, start: Schedule, better: Better) -> Schedule:
    """Take every one-step change that is ``better``, first found first, until none is.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    current, score = start, evaluator.score(start)
    for _ in range(_MAX_PASSES):
        before = current
        for step in list(neighbours(space, current)):
            trial = step(space, current)
            if trial == current:
                continue
            trial_score = evaluator.score(trial)
            if better(trial_score, score):
                current, score = trial, trial_score
        if current == before:
            break
    return current


def clean_up(space: Space, evaluator: Evaluator, start: Schedule) -> Schedule:
    """Descend from a schedule that fits to one that no single change makes faster.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    return descend(space, evaluator, start, lambda new, old: new.feasible and new.faster_than(old))


def change_pace(space: Space, schedule: Schedule, window: int, distance: int) -> Schedule:
    """Change offload window and prefetch distance by so much, down to 1 at least."""
    memory = schedule.memory
    return space.with_parts(
        schedule,
        window=max(1, memory.offload_window + window),
        distance=max(1, memory.prefetch_distance + distance),
    )


def _choose(space: Space, schedule: Schedule, unit: int, choice: Choice) -> Schedule:
    return space.with_choices(schedule, {unit: choice})


def _replace_span(space: Space, schedule: Schedule, old: Span, new: tuple[Span, ...]) -> Schedule:
    spans = flatten(schedule.memory.groups)
    if old not in spans:
        return schedule
    kept = [span for span in spans if span != old]
    if any(one.crosses(span) for one in new for span in kept):
        return schedule
    return space.with_parts(schedule, spans=(*kept, *new))
