"""Random changes of a schedule for local search and annealing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from remora.agents.heuristics.cut_moves import reshape, shift_cut
from remora.agents.heuristics.neighbours import change_pace, change_stage_pace
from remora.agents.heuristics.space import Choice, Space
from remora.agents.heuristics.spans import Span, add_span, flatten
from remora.schedule.schedule import Placement, Schedule

__all__ = ["random_move"]

Move = Callable[[Space, Schedule, Random], Schedule]


def random_move(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    """A valid schedule one random change away; may be ``schedule`` itself where the change fails.

    Args:
        space: where to choose from.
        schedule: valid, made by ``space`` or at least for its problem.
        rng: source of all choices.
    """
    moves: list[tuple[int, Move]] = [(5, _flip), (2, _swap), (1, _flip_alike)]
    if space.can_group:
        moves.append((2, _make_group))
    if schedule.memory.groups:
        moves += [(1, _drop_group), (2, _resize_group)]
        if space.can_offload:
            moves.append((1, _move_checkpoint))
    if space.uses_host(schedule):
        moves.append((1, _change_pace))
    if space.shapes and schedule.pipeline.cuts:
        moves.append((3, _shift_cut))
    if len(space.shapes) > 1:
        moves.append((1, _change_shape))
    if len(space.states) > 1:
        moves.append((1, _change_state))
        if schedule.state.optimizer is Placement.HOST and schedule.state.zero_stage <= 1:
            moves.append((1, _stream_unit))
    weights = [weight for weight, _ in moves]
    _, move = rng.choices(moves, weights)[0]
    return move(space, schedule, rng)


def _flip(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    units = space.free_units
    if not units:
        return schedule
    unit = rng.choice(units)
    return space.with_choices(schedule, {unit: rng.choice(space.choices[unit])})


def _flip_alike(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    """Give one choice to some units of one kind that follow each other."""
    if not space.free_units:
        return schedule
    first = rng.choice(space.free_units)
    alike = space.alike[first]
    position = alike.index(first)
    chosen = alike[position : position + rng.randint(2, 8)]
    place = rng.randrange(len(space.choices[first]))
    return space.with_choices(schedule, {unit: _at(space, unit, place) for unit in chosen})


def _swap(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    """Exchange what two units do, as far as their menus allow it."""
    if len(space.free_units) < 2:
        return schedule
    first, second = rng.sample(space.free_units, 2)
    places = [_place(space, schedule, unit) for unit in (second, first)]
    chosen = {
        unit: _at(space, unit, place) for unit, place in zip((first, second), places, strict=True)
    }
    return space.with_choices(schedule, chosen)


def _place(space: Space, schedule: Schedule, unit: int) -> int:
    """Where in its menu the choice of a unit stands; 0 for one that is none of the menu's."""
    choice = space.choice_of(schedule, unit)
    choices = space.choices[unit]
    return choices.index(choice) if choice in choices else 0


def _at(space: Space, unit: int, place: int) -> Choice:
    choices = space.choices[unit]
    return choices[min(place, len(choices) - 1)]


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
    change = rng.choice((-4, -2, -1, 1, 2, 4))
    window, distance = (change, 0) if rng.random() < 0.5 else (0, change)
    stages = schedule.pipeline.num_stages
    if stages > 1 and rng.random() < 0.7:
        return change_stage_pace(space, schedule, rng.randrange(stages), window, distance)
    return change_pace(space, schedule, window, distance)


def _shift_cut(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    """Move one cut, or a few neighbouring ones together."""
    first = rng.randrange(len(schedule.pipeline.cuts))
    change = rng.choice((-1, 1))
    length = 1 if rng.random() < 0.7 else rng.randint(2, 4)
    indices = list(range(first, min(first + length, len(schedule.pipeline.cuts))))
    # The one that moves away from the others first, so that no stage is empty meanwhile.
    for index in reversed(indices) if change > 0 else indices:
        schedule = shift_cut(space, schedule, index, change)
    return schedule


def _change_shape(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    return reshape(space, schedule, rng.choice(space.shapes))


def _change_state(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    return space.with_parts(schedule, state=rng.choice(space.states))


def _stream_unit(space: Space, schedule: Schedule, rng: Random) -> Schedule:
    """Bring the weights of one more unit in for every use, or keep them on the device again."""
    if not space.weighty_units:
        return schedule
    chosen = {*schedule.state.streamed_units} ^ {rng.choice(space.weighty_units)}
    state = replace(
        schedule.state,
        weights=Placement.HOST if chosen else Placement.DEVICE,
        streamed_units=tuple(sorted(chosen)),
    )
    return space.with_parts(schedule, state=state)
