"""Scheduler ``rank_greedy``: every pipeline the problem allows, filled rank by rank, cleaned up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.changes import Pricing, changes_of
from remora.agents.heuristics.fill import fill
from remora.agents.heuristics.greedy import greedy_search
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.programmed import programmed
from remora.agents.heuristics.shapes import Shape, shape_of
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.variants import Look, search_variants
from remora.schedule.cuts import balanced_cuts, uniform_cuts
from remora.schedule.menu import recompute_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, Schedule
from remora.simulator.bounds import fastest_pipeline
from remora.simulator.likely import likely_step_s

__all__ = ["RankGreedy", "contestants", "filled_pipelines", "rank_greedy_search"]

_CLEANED = 3
_PROGRAM_SHARE = 0.3
_PROGRAMMED = 4
_TOO_SLOW = 1.15
_UNLIKELY = 1.5
_LEADING = 8

_Ranked = tuple[float, float, Shape]
"""Seconds that a shape is likely to take, a bound below them, and the shape."""

# Copies dear and close to the device's own pace, or free with time to spare.
_WAYS = ((Pricing(copy_cost=True), (2, 1)), (Pricing(copy_cost=False), (8, 4)))


@dataclass(frozen=True)
class RankGreedy:
    """All kinds, micro-batches and ways to cut, each with options that just fit every rank.

    The fastest few are cleaned up over options, groups and cuts. On one device it is the greedy
    by simulated marginal cost. Of tensor degrees and numbers of replicas the best with plain
    pipelines are filled, and the best of those searched.
    """

    plans_variants: ClassVar = True

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "rank_greedy"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        if problem.variants:
            return search_variants(self.name, problem, time_limit_s, _LOOKS)
        evaluator = Evaluator(problem, time_limit_s)
        with suppress(SearchEnded):
            rank_greedy_search(Space(problem), evaluator)
        return evaluator.answer(self.name)


def _fill(evaluator: Evaluator) -> None:
    best = evaluator.best
    below_s = math.inf if best is None else evaluator.score(best).step_time_s
    filled_pipelines(Space(evaluator.problem, mixed=False), evaluator, below_s)


def _search(evaluator: Evaluator) -> None:
    rank_greedy_search(Space(evaluator.problem), evaluator)


_LOOKS = (Look(4, _fill), Look(2, _search))
"""At variants, after all of them were looked at with plain pipelines."""


def rank_greedy_search(space: Space, evaluator: Evaluator) -> Schedule | None:
    """Search with all effects in ``evaluator``; returns the best schedule, None if none fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if space.problem.world_size == 1:
        return greedy_search(space, evaluator)
    starts = contestants(space, evaluator)
    for schedule in starts[:_CLEANED]:
        clean_up(space, evaluator, schedule)
    return evaluator.best


def contestants(space: Space, evaluator: Evaluator) -> list[Schedule]:
    """The fastest schedule that fits of every shape found to have one, fastest first.

    From the partition program and from filling every pipeline; where neither finds any, the
    schedule of least memory if that fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    evaluator.score(space.floor)
    ranked = _by_likelihood(space, evaluator)
    plans = [*_partitioned(space, evaluator, ranked), *_filled(space, evaluator, ranked)]
    if not plans:
        least = find_fitting(space, evaluator)
        plans = [] if least is None else [least]
    plans.sort(key=lambda schedule: evaluator.score(schedule).step_time_s)
    by_shape: dict[Shape, Schedule] = {}
    for plan in plans:
        by_shape.setdefault(shape_of(plan.pipeline), plan)
    return list(by_shape.values())


def _partitioned(space: Space, evaluator: Evaluator, ranked: Sequence[_Ranked]) -> list[Schedule]:
    """Plans of the partition program for the likeliest shapes, as far as they fit.

    The cuts of the fastest are filled greedily, too.
    """
    if evaluator.remaining_s <= 0:
        raise SearchEnded
    end_s = (1 - _PROGRAM_SHARE) * evaluator.remaining_s
    plans: list[Schedule] = []
    for _, bound_s, shape in ranked[:_PROGRAMMED]:
        if bound_s < evaluator.best_s:
            plans += programmed(space, evaluator, [shape], evaluator.remaining_s - end_s)
    if not plans:
        others = [shape for _, _, shape in ranked[_PROGRAMMED:]]
        return programmed(space, evaluator, others, evaluator.remaining_s - end_s)
    best = min(plans, key=lambda schedule: evaluator.score(schedule).step_time_s)
    start = space.with_parts(space.keep_all, pipeline=best.pipeline)
    filled = _fastest_filled(space, evaluator, start)
    return plans if filled is None else [*plans, filled]


def filled_pipelines(
    space: Space, evaluator: Evaluator, below_s: float = math.inf
) -> list[Schedule]:
    """The fastest fitting schedule of every shape and way to cut, fastest first.

    Shapes come in the order of the seconds that they are likely to take. One that has no schedule
    faster than a filled one is left out, and so is one that is far behind, with everything kept or
    by what is likely.

    Args:
        space: shapes and menus.
        evaluator: simulates.
        below_s: shapes that are no faster than this are left out.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    return _filled(space, evaluator, _by_likelihood(space, evaluator), below_s)


def _filled(
    space: Space, evaluator: Evaluator, ranked: Sequence[_Ranked], below_s: float = math.inf
) -> list[Schedule]:
    found: dict[Schedule, float] = {}
    for likely_s, bound_s, shape in ranked:
        best_s = min([below_s, *found.values()])
        if bound_s >= best_s or likely_s > _UNLIKELY * min(best_s, evaluator.best_s):
            continue
        for cuts in _cuts(space, shape):
            start = space.with_parts(space.keep_all, pipeline=shape.cut(cuts))
            if evaluator.score(start).step_time_s > _TOO_SLOW * best_s:
                continue
            filled = _fastest_filled(space, evaluator, start)
            if filled is not None:
                found[filled] = evaluator.score(filled).step_time_s
    return sorted(found, key=found.__getitem__)


def _by_likelihood(space: Space, evaluator: Evaluator) -> list[_Ranked]:
    """All shapes; those whose bound is behind what is likely come last.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    kept, again = space.keep_all, recompute_all_schedule(space.problem)
    budget = float(space.problem.budget_bytes)
    found: list[_Ranked] = []
    for bound_s, shape in _bounded(space):
        likely_s = bound_s
        leading = sorted(entry[0] for entry in found)[:_LEADING]
        if len(leading) < _LEADING or bound_s <= leading[-1]:
            pipeline = shape.cut(_cuts(space, shape)[0])
            ends = [replace(plan, pipeline=pipeline) for plan in (kept, again)]
            most, least = evaluator.score_all(ends)
            likely_s = likely_step_s(
                most.step_time_s, most.peak_bytes, least.step_time_s, least.peak_bytes, budget
            )
        found.append((likely_s, bound_s, shape))
    return sorted(found, key=lambda entry: entry[:2])


def _bounded(space: Space) -> list[tuple[float, Shape]]:
    """Shapes with the seconds that memory apart none of their schedules goes below, in order."""
    chains = space.problem.chains
    found: list[tuple[float, Shape]] = []
    known: dict[tuple[PipelineKind, int, int], float] = {}
    for shape in space.shapes:
        chain = chains[shape.micro_batches]
        key = (shape.kind, shape.num_ranks, shape.micro_batches)
        if key not in known:
            time = None
            if shape.num_ranks > 1:
                time = fastest_pipeline(chain, shape.num_ranks, shape.micro_batches, shape.kind)
            work_s = sum(unit.forward_s + unit.backward_s for unit in chain.units)
            known[key] = shape.micro_batches * work_s if time is None else time.path_s
        found.append((known[key], shape))
    return sorted(found, key=lambda entry: entry[0])


def _fastest_filled(space: Space, evaluator: Evaluator, start: Schedule) -> Schedule | None:
    """The best of some pricings and paces; None if none fits."""
    found: dict[Schedule, float] = {}
    for pricing, (window, distance) in _WAYS if space.can_offload else _WAYS[:1]:
        begin = space.with_parts(start, window=window, distance=distance)
        schedule = fill(space, evaluator, begin, changes_of(space, pricing))
        if schedule is not None and (score := evaluator.score(schedule)).feasible:
            found[schedule] = score.step_time_s
    return min(found, key=found.__getitem__, default=None)


def _cuts(space: Space, shape: Shape) -> list[tuple[int, ...]]:
    """Equal seconds, equal numbers of units; those of the partition program come on top."""
    units = space.problem.chains[shape.micro_batches].units
    seconds = [unit.forward_s + unit.backward_s for unit in units]
    balanced = balanced_cuts(seconds, shape.num_stages)
    uniform = uniform_cuts(space.num_units, shape.num_stages)
    return [balanced] if balanced == uniform else [balanced, uniform]
