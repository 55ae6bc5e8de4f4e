"""Every schedule one step away from another, in a fixed order, and descent over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from remora.agents.evaluation import Evaluator, Score
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, flatten
from remora.schedule.schedule import Action, Schedule

__all__ = ["clean_up", "descend", "neighbours", "uses_host"]

_MAX_PASSES = 4

Better = Callable[[Score, Score], bool]
Step = Callable[[Schedule], Schedule]
"""One change, applied to whatever the schedule is by then."""


def neighbours(space: Space, schedule: Schedule) -> Iterator[Step]:
    """The changes of one decision: an option, a group, a checkpoint's place, the pace of copies."""
    for unit, menu in enumerate(space.menus):
        for option in menu:
            yield lambda s, unit=unit, option=option: space.with_option(s, unit, option)
    for span in flatten(schedule.memory.groups):
        yield lambda s, span=span: _replace_span(space, s, span, ())
        for start, end in _resized(span):
            yield lambda s, span=span, start=start, end=end: _replace_span(
                space, s, span, (replace(span, start=start, end=end),)
            )
        if space.can_offload:
            yield lambda s, span=span: _replace_span(
                space, s, span, (replace(span, offload=not span.offload),)
            )
    if uses_host(schedule):
        for change in (1, -1):
            yield lambda s, change=change: space.with_parts(
                s, window=max(1, s.memory.offload_window + change)
            )
            yield lambda s, change=change: space.with_parts(
                s, distance=max(1, s.memory.prefetch_distance + change)
            )


def descend(space: Space, evaluator: Evaluator, start: Schedule, better: Better) -> Schedule:
    """Take every one-step change that is ``better``, first found first, until none is.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    current, score = start, evaluator.score(start)
    for _ in range(_MAX_PASSES):
        before = current
        for step in list(neighbours(space, current)):
            trial = step(current)
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


def uses_host(schedule: Schedule) -> bool:
    """Whether anything is copied to the host."""
    memory = schedule.memory
    return any(Action.OFFLOAD in option.distinct for option in memory.options) or any(
        group.checkpoint is Action.OFFLOAD for group in memory.groups
    )


def _resized(span: Span) -> Iterator[tuple[int, int]]:
    if span.end - span.start > 2:
        yield span.start + 1, span.end
        yield span.start, span.end - 1


def _replace_span(
    space: Space, schedule: Schedule, old: Span, new: tuple[Span, ...]
) -> Schedule:
    spans = flatten(schedule.memory.groups)
    if old not in spans:
        return schedule
    kept = [span for span in spans if span != old]
    if any(one.crosses(span) for one in new for span in kept):
        return schedule
    return space.with_parts(schedule, spans=(*kept, *new))
