"""What every episode of a pass shows and allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from remora.envs.actions import KINDS, NUM_DECISIONS, PACES, Phase
from remora.envs.arrays import (
    BUDGET,
    FALLBACK,
    FIRST_ROW,
    PHASE,
    RANKS,
    ROW,
    Episodes,
)
from remora.envs.passes.estimates import likely_s
from remora.envs.passes.standing import Standing, candidates, planned_cuts, standing_of
from remora.envs.passes.telling import tell_pass
from remora.envs.telling import FEATURE_LIMIT
from remora.schedule.schedule import PipelineKind, Schedule
from remora.simulator.compiled import simulator_of
from remora.simulator.compiled.figures import Figures

if TYPE_CHECKING:
    from remora.envs.passes.tables import PassTables

__all__ = ["GPIPE", "choices_left", "look_at_passes"]

GPIPE = KINDS.index((PipelineKind.GPIPE, 1))
"""The kind of every pipeline of passes."""


_NONE = np.zeros((0, 3))
"""Seconds of no stage."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """An action that may be allowed.

    Attributes:
        action: its number.
        room: bytes that the plan it leads to leaves; negative if that does not fit.
        copies_s: that it brings about, of all micro-batches.
        value: what is chosen, as a number.
        outlook_s: likely seconds of the pass.
    """

    action: int
    room: int
    copies_s: float
    value: float
    outlook_s: float


def choices_left(problem: PassTables, phase: Phase) -> tuple[int, ...]:
    """Actions of a setting; one or none where there is nothing to choose."""
    if phase is Phase.RANKS:
        return tuple(range(len(problem.rank_choices)))
    if phase is Phase.MICRO_BATCHES:
        return tuple(range(len(problem.micro_batches)))
    return problem.paces if phase is Phase.PACE else ()


def look_at_passes(
    problems: Sequence[PassTables], episodes: Episodes, places: Sequence[int]
) -> None:
    """Fill what some episodes show and allow; plans of one problem are simulated together."""
    in_units: dict[int, list[int]] = {}
    for place in places:
        ints = episodes.ints[place]
        problem = problems[ints[FIRST_ROW]]
        if ints[PHASE] == Phase.UNITS:
            in_units.setdefault(int(ints[FIRST_ROW]), []).append(place)
        elif ints[PHASE] == Phase.DONE:
            _show(problem, episodes, place, ())
        else:
            _show(problem, episodes, place, _settings(problem, episodes, place))
    for index, own in in_units.items():
        _look_at_units(problems[index], episodes, own)


def _look_at_units(problem: PassTables, episodes: Episodes, places: Sequence[int]) -> None:
    standings = [standing_of(problem, episodes, place) for place in places]
    offered = [list(candidates(problem, at)) for at in standings]
    plans: list[Schedule] = [plan for options in offered for _, plan in options]
    figures = iter(simulator_of(problem.problem).batch(plans))
    for place, at, options in zip(places, standings, offered, strict=True):
        own = [(action, next(figures)) for action, _ in options]
        _show(problem, episodes, place, _unit_offers(problem, episodes, place, at, own))


def _unit_offers(
    problem: PassTables,
    episodes: Episodes,
    place: int,
    at: Standing,
    options: Sequence[tuple[int, Figures]],
) -> Iterator[_Offer]:
    budget = int(episodes.ints[place, BUDGET])
    closed = episodes.stage_s[place, : at.stage]
    costs, times = problem.counts[at.count], problem.micro_batches[at.count]
    cuts = {cut: planned_cuts(problem, at, cut) for cut in (False, True)}
    for action, figures in options:
        own = cuts[action >= NUM_DECISIONS]
        assert own is not None  # else it would be no candidate
        yield _Offer(
            action,
            _room(problem, figures, budget),
            times * max(costs.copies_s(at.cursor, action)),
            0.0,
            likely_s(problem, at, closed, own, (*at.decisions, action), budget),
        )


def _settings(problem: PassTables, episodes: Episodes, place: int) -> Iterator[_Offer]:
    """Ranks, numbers of micro-batches or paces, each with the best that follows from it."""
    ints = episodes.ints[place]
    phase, budget = Phase(int(ints[PHASE])), int(ints[BUDGET])
    least = PACES.index((1, 1))
    for action in choices_left(problem, phase):
        places = [action] if phase is Phase.RANKS else [int(ints[RANKS])]
        counts = list(range(len(problem.micro_batches)))
        if phase >= Phase.MICRO_BATCHES:
            counts = [action if phase is Phase.MICRO_BATCHES else int(ints[ROW])]
        pace = action if phase is Phase.PACE else least
        found = [
            _pipeline(problem, problem.rank_choices[ranks], count, pace, budget)
            for ranks in places
            for count in counts
        ]
        room = max(one for one, _ in found)
        fitting = [seconds for one, seconds in found if one >= 0]
        value = _value(problem, phase, action)
        yield _Offer(action, room, 0.0, value, min(fitting, default=math.inf))


def _pipeline(
    problem: PassTables, ranks: int, count: int, pace: int, budget: int
) -> tuple[int, float]:
    """Bytes that everything on the host leaves, and what a pass is likely to take."""
    figures = problem.leanest(ranks, count, pace)
    at = Standing(ranks, count, pace, 0, 0, ())
    cuts = problem.ends(count, 0, ranks)
    seconds = likely_s(problem, at, _NONE, cuts, (), budget)
    return _room(problem, figures, budget), seconds


def _room(problem: PassTables, figures: Figures, budget: int) -> int:
    if max(figures.host_peak_bytes) > problem.problem.hardware.host.memory_bytes:
        return -1
    return budget - figures.max_peak_bytes


def _value(problem: PassTables, phase: Phase, action: int) -> float:
    if phase is Phase.RANKS:
        return math.log2(problem.rank_choices[action]) / 5
    if phase is Phase.MICRO_BATCHES:
        return math.log2(problem.micro_batches[action]) / 5
    return PACES[action][0] / 8


def _show(
    problem: PassTables, episodes: Episodes, place: int, offers: Sequence[_Offer] | Iterator[_Offer]
) -> None:
    """Write mask, fallback, what is told about every choice, and the state."""
    episodes.mask[place] = False
    episodes.choices[place] = 0.0
    allowed = [one for one in offers if one.room >= 0]
    least_s = min((one.outlook_s for one in allowed), default=0.0)
    scale = 10 / problem.keep_all_s
    for one in allowed:
        told = (1.0, one.room / problem.span_bytes, 0.0, scale * one.copies_s, one.value)
        episodes.mask[place, one.action] = True
        choice = episodes.choices[place, one.action]
        choice[:] = (*told, scale * (one.outlook_s - least_s))
        choice.clip(-FEATURE_LIMIT, FEATURE_LIMIT, out=choice)
    widest = max(allowed, key=lambda one: one.room, default=None)
    episodes.ints[place, FALLBACK] = -1 if widest is None else widest.action
    tell_pass(problem, episodes, place, 0 if widest is None else widest.room)
