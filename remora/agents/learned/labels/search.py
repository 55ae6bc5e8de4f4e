"""The long search behind a label: the best schedule found of every shape, and what greedy finds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from remora.agents.candidates import run_member
from remora.agents.evaluation import SearchEnded, score_of
from remora.agents.heuristics.annealing import anneal
from remora.agents.heuristics.cut_moves import reshape
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.local_search import improve
from remora.agents.heuristics.race import race
from remora.agents.heuristics.rank_greedy import filled_pipelines, rank_greedy_search
from remora.agents.heuristics.shapes import Shape
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.agents.learned.labels.recorder import ShapeRecorder
from remora.agents.registry import create
from remora.schedule.cuts import balanced_cuts
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Found", "ShapePlan", "long_search"]

_GREEDY_LIMIT_S = 30.0
_ONE_DEVICE = ("greedy_variants", "rotor", "recompute_offload")
_MEMBER_SHARE = 0.15
"""Of the time for each of them."""

_WIDENED, _RACED, _ANNEALED = 0.25, 0.6, 0.9
"""Shares of the time at which the parts of the search end; the rest is climbing."""

_HOPELESS = 2.0
"""A shape so many times slower than the best plan, with all the memory it wants, is not filled."""


@dataclass(frozen=True)
class ShapePlan:
    """What is known of one shape.

    Attributes:
        shape: kind, ranks, chunks and micro-batches.
        ideal_s: step time with everything kept, whatever that takes, and balanced cuts.
        step_time_s: of the best schedule found that fits; None if none was.
        schedule: that schedule.
    """

    shape: Shape
    ideal_s: float
    step_time_s: float | None
    schedule: Schedule | None


@dataclass(frozen=True)
class Found:
    """The outcome of one long search.

    Attributes:
        greedy: what the greedy search with its clean-up answers.
        greedy_s: its step time.
        plans: one for every shape that the problem allows, the fastest first.
        evaluations: schedules that were simulated.
    """

    greedy: Schedule
    greedy_s: float
    plans: tuple[ShapePlan, ...]
    evaluations: int


def long_search(problem: Problem, time_limit_s: float, seed: int = 0) -> Found:
    """Search as well as the time allows, and keep the best of every shape.

    Greedy has a limit of its own, so that it always comes to its end; everything else begins
    from what it met.

    Args:
        problem: what is planned.
        time_limit_s: seconds of the processor after greedy.
        seed: of the random changes.

    Raises:
        InfeasibleError: nothing fits.
        InvalidInputError: the limit is not above 0.
    """
    space = Space(problem)
    first = ShapeRecorder(problem, _GREEDY_LIMIT_S)
    with suppress(SearchEnded):
        rank_greedy_search(space, first)
    greedy = first.answer("rank_greedy")
    recorder = ShapeRecorder(problem, time_limit_s)
    ideal_s = _ideal_times(space, recorder)
    with suppress(SearchEnded):
        recorder.score_all([greedy, *first.plans.values()])
        _search(space, recorder, ideal_s, time_limit_s, Random(seed))
    return Found(
        greedy,
        first.score(greedy).step_time_s,
        _shape_plans(problem, recorder.plans, ideal_s),
        first.evaluations + recorder.evaluations,
    )


def _search(
    space: Space,
    recorder: ShapeRecorder,
    ideal_s: Mapping[Shape, float],
    time_limit_s: float,
    rng: Random,
) -> None:
    """Look for more starts, let them race, anneal from the best one and climb from there.

    Raises:
        SearchEnded: the time is over.
    """
    whole = Stretch(recorder)
    if space.problem.world_size == 1:
        for name in _ONE_DEVICE:
            found = run_member(create(name), space.problem, _MEMBER_SHARE * time_limit_s)
            if found.schedule is not None:
                recorder.score(found.schedule)
    else:
        _widen(space, recorder, ideal_s, whole.part(_WIDENED))
        race(space, recorder, recorder.ranked, whole.part(_RACED), rng)
    for step, share in ((anneal, _ANNEALED), (improve, 1.0)):
        if recorder.best is not None:
            step(space, recorder, recorder.best, whole.part(share), rng)


def _widen(
    space: Space, recorder: ShapeRecorder, ideal_s: Mapping[Shape, float], stretch: Stretch
) -> None:
    """Fill shapes that have no plan yet, or go down to their least memory, most promising first.

    Raises:
        SearchEnded: the time is over.
    """
    for shape in sorted(ideal_s, key=ideal_s.__getitem__):
        best = recorder.best
        if best is None or ideal_s[shape] > _HOPELESS * recorder.score(best).step_time_s:
            return
        if stretch.progress >= 1:
            return
        if shape in recorder.plans:
            continue
        filled_pipelines(space.within(shape), recorder)
        if shape not in recorder.plans:
            pipeline = reshape(space, best, shape).pipeline
            find_fitting(Space(space.problem, pipeline, shapes=(shape,)), recorder)


def _ideal_times(space: Space, recorder: ShapeRecorder) -> dict[Shape, float]:
    """Seconds of every shape with everything kept."""
    problem = space.problem
    plans = []
    for shape in space.shapes:
        units = problem.chains[shape.micro_batches].units
        seconds = [unit.forward_s + unit.backward_s for unit in units]
        cuts = balanced_cuts(seconds, shape.num_stages)
        plans.append(space.with_parts(space.keep_all, pipeline=shape.cut(cuts)))
    scores = recorder.score_all(plans)
    return {s: found.step_time_s for s, found in zip(space.shapes, scores, strict=True)}


def _shape_plans(
    problem: Problem, plans: Mapping[Shape, Schedule], ideal_s: Mapping[Shape, float]
) -> tuple[ShapePlan, ...]:
    """One for every shape; every schedule is checked against all rules and simulated alone."""
    times = {shape: score_of(problem, plan).step_time_s for shape, plan in plans.items()}
    order = sorted(
        ideal_s, key=lambda shape: (shape not in times, times.get(shape, ideal_s[shape]))
    )
    return tuple(
        ShapePlan(shape, ideal_s[shape], times.get(shape), plans.get(shape)) for shape in order
    )
