"""Random changes of a schedule for local search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from remora.agents.evaluation import uses_host
from remora.agents.heuristics.neighbours import change_pace
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, add_span, flatten
from remora.schedule.schedule import Schedule

__all__ = ["random_move"]

Move = Callable[[Space, Schedule, Random], Schedule]


def random_move(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    """A valid schedule one random change away; may be ``schedule`` itself where the change fails.

    Args:
        space: where to choose from.
        schedule: valid, made by ``space`` or at least for its problem.
        rng: source of all choices.
    """
    moves: list[tuple[int, Move]] = [(4, _flip), (3, _swap), (2, _make_group)]
    if schedule.memory.groups:
        moves += [(1, _drop_group), (2, _resize_group)]
        if space.can_offload:
            moves.append((1, _move_checkpoint))
    if uses_host(schedule):
        moves.append((1, _change_pace))
    weights = [weight for weight, _ in moves]
    _, move = rng.choices(moves, weights)[0]
    return move(space, schedule, rng)


def _flip(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    units = [unit for unit, choices in enumerate(space.choices) if len(choices) > 1]
    if not units:
        return schedule
    unit = rng.choice(units)
    current = space.choice_of(schedule, unit)
    others = [choice for choice in space.choices[unit] if choice != current]
    return space.with_choices(schedule, {unit: rng.choice(others)})


def _swap(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    """Exchange what two units do, as far as their menus allow it."""
    units = [unit for unit, choices in enumerate(space.choices) if len(choices) > 1]
    if len(units) < 2:
        return schedule
    first, second = rng.sample(units, 2)
    places = [_place(space, schedule, unit) for unit in (second, first)]
    chosen = {
        unit: space.choices[unit][min(place, len(space.choices[unit]) - 1)]
        for unit, place in zip((first, second), places, strict=True)
    }
    return space.with_choices(schedule, chosen)


def _place(space: Space, schedule: Schedule, unit: int) -> int:
    return space.choices[unit].index(space.choice_of(schedule, unit))


def _make_group(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    ranges = [span for span in space.free_ranges if span.end - span.start > 1]
    if not ranges:
        return schedule
    area = rng.choice(ranges)
    start, end = sorted(rng.sample(range(area.start, area.end + 1), 2))
    # Short groups are the useful ones in most models, so long draws are mostly cut.
    if rng.random() < 0.7:
        end = min(end, start + rng.randint(2, 6))
    options = list(schedule.memory.options)
    for unit in range(start, end):
        options[unit] = space.menus[unit][0]
    spans = add_span(flatten(schedule.memory.groups), Span(start, end))
    return space.with_parts(schedule, options=options, spans=spans)


def _drop_group(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    spans = list(flatten(schedule.memory.groups))
    spans.pop(rng.randrange(len(spans)))
    return space.with_parts(schedule, spans=spans)


def _resize_group(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    spans = flatten(schedule.memory.groups)
    old = rng.choice(spans)
    start, end = old.start, old.end
    if rng.random() < 0.5:
        start += rng.choice((-1, 1))
    else:
        end += rng.choice((-1, 1))
    if start < 0 or end > space.num_units or start >= end:
        return schedule
    if space.fixed & set(range(start, end)):
        return schedule
    rest = [span for span in spans if span != old]
    return space.with_parts(schedule, spans=add_span(rest, replace(old, start=start, end=end)))


def _move_checkpoint(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    spans = list(flatten(schedule.memory.groups))
    index = rng.randrange(len(spans))
    spans[index] = replace(spans[index], offload=not spans[index].offload)
    return space.with_parts(schedule, spans=spans)


def _change_pace(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    change = rng.choice((-2, -1, 1, 2))
    if rng.random() < 0.5:
        return change_pace(space, schedule, window=change, distance=0)
    return change_pace(space, schedule, window=0, distance=change)
