"""From a plan that runs to one for a changed problem: repair, climb, then keep what can be kept."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from random import Random

from remora.agents.evaluation import Evaluator, Score, SearchEnded
from remora.agents.heuristics.annealing import anneal, first_plans
from remora.agents.heuristics.greedy import flip_until_feasible, greedy_search
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.local_search import improve
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.race import race
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, flatten
from remora.agents.heuristics.stretch import Stretch
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["adjust", "keep_what_can_be_kept"]

_NAME = "replan"

_SEARCHED = 0.85
"""Share of the time after which the search ends and what can be kept is put back."""

_RACED = 0.7
"""Share of that for the race of pipelines, where they may change."""

_ANNEALED = 0.8
"""Share of what is left after the greedy plans."""

_WORTH = 0.005
"""By how much a step may take longer for being closer to the plan that runs.

Predictions are not better than that, and every change of a running plan is one more to explain.
"""

_LAST_RESORT_S = 10.0
"""Seconds of the search for anything that fits, where the usual time did not find it."""


def adjust(
    problem: Problem,
    present: Schedule,
    time_limit_s: float,
    everything: bool = False,
    seed: int = 0,
) -> Schedule:
    """Change a schedule until it suits a problem whose budget or link rates have changed.

    If it does not fit any more, units are changed greedily by simulated seconds per byte until it
    does, and single changes make it faster. From the best of that, of a greedy plan that begins
    anew and of the one of least memory a random walk goes on. At last every part that costs next
    to nothing is put back as it was.

    Args:
        problem: as it is now.
        present: valid for it, whether it fits or not.
        time_limit_s: seconds after which the search answers with the best schedule so far; it
            takes longer where there is none by then.
        everything: whether pipeline, cuts, micro-batches and places of state may change too.
        seed: of the random changes.

    Raises:
        InfeasibleError: nothing fits.
        TimeLimitError: nothing that fits was found, and not that nothing does.
    """
    narrow = Space(problem, present.pipeline, shapes=(), state=present.state)
    wide = Space(problem, present.pipeline) if everything else narrow
    # The clock starts when the menus are there: a search that they cut short would be a bad one.
    evaluator = Evaluator(problem, _SEARCHED * time_limit_s)
    with suppress(SearchEnded):
        can_stay = evaluator.score(narrow.floor).feasible
        if can_stay or not everything:
            _repair(narrow, evaluator, present)
        if everything:
            _race(wide, evaluator, Random(seed))
        else:
            greedy_search(narrow, evaluator)
            clean_up(narrow, evaluator, evaluator.best or narrow.floor)
        if evaluator.best is not None:
            _walk(wide, evaluator, evaluator.best, Random(seed))
    if evaluator.best is None:
        return _last_resort(wide, present, everything)
    rest = Evaluator(problem, (1 - _SEARCHED) * time_limit_s)
    return keep_what_can_be_kept(narrow, rest, present, evaluator.best)


def keep_what_can_be_kept(
    space: Space, evaluator: Evaluator, present: Schedule, found: Schedule
) -> Schedule:
    """Put parts of ``found`` back as they are in ``present`` while that costs next to nothing.

    All together they may make the step :data:`_WORTH` slower. A part is a unit, or units that
    groups of either schedule hold together; the pace of host copies is one more.

    Args:
        space: makes the schedules.
        evaluator: scores and limits; at its end the parts not yet tried stay as they are found.
        present: the plan that runs.
        found: a schedule that fits.
    """
    current = found
    limit_s = evaluator.score(found).step_time_s * (1 + _WORTH)

    def allowed(score: Score) -> bool:
        return score.feasible and score.step_time_s <= limit_s

    with suppress(SearchEnded):
        if allowed(evaluator.score(present)):
            return present
        if present.pipeline != found.pipeline or present.state != found.state:
            return found
        for part in _parts(space, present, found):
            trial = _put_back(space, current, present, part)
            if trial != current and allowed(evaluator.score(trial)):
                current = trial
        trial = _at_pace_of(space, current, present)
        if trial != current and allowed(evaluator.score(trial)):
            current = trial
    return current


def _repair(space: Space, evaluator: Evaluator, present: Schedule) -> None:
    """Make the plan fit, if it does not, and climb from there by single changes."""
    start: Schedule | None = present
    if not evaluator.score(present).feasible:
        start = flip_until_feasible(space, evaluator, present)
    if start is not None:
        clean_up(space, evaluator, start)


def _race(space: Space, evaluator: Evaluator, rng: Random) -> None:
    """Let the plans of all pipelines compete with the best one so far."""
    known = [evaluator.best] if evaluator.best is not None else []
    starts = [*known, *first_plans(space, evaluator)]
    race(space, evaluator, starts, Stretch(evaluator).part(_RACED), rng)


def _walk(space: Space, evaluator: Evaluator, start: Schedule, rng: Random) -> None:
    """Anneal for most of the time that is left, since a new budget has other basins, then climb."""
    whole = Stretch(evaluator)
    anneal(space, evaluator, start, whole.part(_ANNEALED), rng)
    improve(space, evaluator, evaluator.best or start, whole, rng)


def _last_resort(space: Space, present: Schedule, everything: bool) -> Schedule:
    """Take the time to find something that fits, down to the least memory known; or say what it is.

    Raises:
        InfeasibleError, TimeLimitError: there is nothing, or not in that time.
    """
    evaluator = Evaluator(space.problem, _LAST_RESORT_S)
    with suppress(SearchEnded):
        if everything:
            first_plans(space, evaluator)
        elif flip_until_feasible(space, evaluator, present) is None:
            find_fitting(space, evaluator)
    return evaluator.answer(_NAME)


def _parts(space: Space, first: Schedule, second: Schedule) -> Iterable[tuple[int, int]]:
    """Half-open ranges of units that no group of either schedule crosses, in order."""
    spans = [*flatten(first.memory.groups), *flatten(second.memory.groups)]
    inside = {border for span in spans for border in range(span.start + 1, span.end)}
    borders = [unit for unit in range(space.num_units + 1) if unit not in inside]
    return pairwise(borders)


def _put_back(
    space: Space, schedule: Schedule, present: Schedule, part: tuple[int, int]
) -> Schedule:
    """``schedule`` with options and groups of some units as ``present`` has them."""
    start, end = part
    options = list(schedule.memory.options)
    options[start:end] = present.memory.options[start:end]

    def within(span: Span) -> bool:
        return start <= span.start and span.end <= end

    spans = [span for span in flatten(schedule.memory.groups) if not within(span)]
    spans += [span for span in flatten(present.memory.groups) if within(span)]
    return space.with_parts(schedule, options=options, spans=spans)


def _at_pace_of(space: Space, schedule: Schedule, present: Schedule) -> Schedule:
    memory = present.memory
    return space.with_parts(
        schedule,
        window=memory.offload_window,
        distance=memory.prefetch_distance,
        paces=memory.paces,
    )
