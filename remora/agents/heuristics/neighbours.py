"""Every schedule one step away from another, in a fixed order, and descent over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from remora.agents.evaluation import Evaluator, Score
from remora.agents.heuristics.cut_moves import cut_shifts, shift_cut
from remora.agents.heuristics.space import Choice, Space
from remora.agents.heuristics.spans import Span, flatten
from remora.schedule.schedule import Schedule, StatePlan

__all__ = ["change_pace", "change_stage_pace", "clean_up", "descend", "neighbours"]

_MAX_PASSES = 4

Better = Callable[[Score, Score], bool]
Step = Callable[[Space, Schedule], Schedule]
"""One change, applied to whatever the schedule is by then."""


def neighbours(space: Space, schedule: Schedule) -> Iterator[Step]:
    """The changes of one decision: an option, a group, a checkpoint, the pace of copies, a cut."""
    for unit, choices in enumerate(space.choices):
        for choice in choices:
            yield partial(_choose, unit=unit, choice=choice)
    yield from _of_groups(space, schedule)
    if space.uses_host(schedule):
        for window, distance in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            yield partial(change_pace, window=window, distance=distance)
    if space.shapes:
        for index, change in cut_shifts(schedule.pipeline):
            yield partial(shift_cut, index=index, change=change)
    for state in space.states:
        if state != schedule.state:
            yield partial(_put_state, state=state)


def _of_groups(space: Space, schedule: Schedule) -> Iterator[Step]:
    for span in flatten(schedule.memory.groups):
        if span.end - span.start == 1:
            continue  # a unit by itself: one of its choices
        yield partial(_replace_span, old=span, new=())
        for start, end in ((span.start + 1, span.end), (span.start, span.end - 1)):
            yield partial(_replace_span, old=span, new=(replace(span, start=start, end=end),))
        if space.can_offload:
            yield partial(_replace_span, old=span, new=(replace(span, offload=not span.offload),))


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
    """Change offload window and prefetch distance of all stages by so much, down to 1 at least."""
    memory = schedule.memory
    return space.with_parts(
        schedule,
        window=max(1, memory.offload_window + window),
        distance=max(1, memory.prefetch_distance + distance),
        paces=[(max(1, w + window), max(1, d + distance)) for w, d in memory.paces],
    )


def change_stage_pace(
    space: Space, schedule: Schedule, stage: int, window: int, distance: int
) -> Schedule:
    """Change the pace of one stage by so much, down to 1 at least."""
    memory = schedule.memory
    paces = [memory.pace_of(number) for number in range(schedule.pipeline.num_stages)]
    old = paces[stage]
    paces[stage] = (max(1, old[0] + window), max(1, old[1] + distance))
    return space.with_parts(schedule, paces=paces)


def _choose(space: Space, schedule: Schedule, unit: int, choice: Choice) -> Schedule:
    return space.with_choices(schedule, {unit: choice})


def _put_state(space: Space, schedule: Schedule, state: StatePlan) -> Schedule:
    return space.with_parts(schedule, state=state)


def _replace_span(space: Space, schedule: Schedule, old: Span, new: tuple[Span, ...]) -> Schedule:
    spans = flatten(schedule.memory.groups)
    if old not in spans:
        return schedule
    kept = [span for span in spans if span != old]
    if any(one.crosses(span) for one in new for span in kept):
        return schedule
    return space.with_parts(schedule, spans=(*kept, *new))
