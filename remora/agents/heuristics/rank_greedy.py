"""Scheduler ``rank_greedy``: every pipeline the problem allows, filled rank by rank, cleaned up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.exact.partition.scheduler import partition_search
from remora.agents.heuristics.changes import Pricing, changes_of
from remora.agents.heuristics.fill import fill
from remora.agents.heuristics.greedy import greedy_search
from remora.agents.heuristics.greedy_variants import beginnings
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.shapes import Shape
from remora.agents.heuristics.space import Space
from remora.schedule.cuts import balanced_cuts, uniform_cuts
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, Schedule

__all__ = ["RankGreedy", "filled_pipelines", "rank_greedy_search"]

_CLEANED = 3
_PROGRAM_SHARE = 0.3
_PROGRAM_SLOTS = 200
_TOO_SLOW = 1.05
_PRICINGS = (Pricing(copy_cost=True), Pricing(copy_cost=False))


@dataclass(frozen=True)
class RankGreedy:
    """All kinds, micro-batches and ways to cut, each with options that just fit every rank.

    The fastest few are cleaned up over options, groups and cuts. On one device it is the greedy
    by simulated marginal cost.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "rank_greedy"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        with suppress(SearchEnded):
            rank_greedy_search(Space(problem), evaluator)
        return evaluator.answer(self.name)


def rank_greedy_search(space: Space, evaluator: Evaluator) -> Schedule | None:
    """Search with all effects in ``evaluator``; returns the best schedule, None if none fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if space.problem.world_size == 1:
        return greedy_search(space, evaluator)
    evaluator.score(space.floor)
    starts = [*_partitioned(space, evaluator), *filled_pipelines(space, evaluator)]
    if not starts:
        least = find_fitting(space, evaluator)
        starts = [] if least is None else [least]
    starts.sort(key=lambda schedule: evaluator.score(schedule).step_time_s)
    for schedule in starts[:_CLEANED]:
        clean_up(space, evaluator, schedule)
    return evaluator.best


def _partitioned(space: Space, evaluator: Evaluator) -> list[Schedule]:
    """The best plan of the partition program, and its cuts filled greedily, as far as they fit."""
    program = Evaluator(space.problem, _PROGRAM_SHARE * evaluator.remaining_s)
    with suppress(SearchEnded):
        partition_search(space, program, space.shapes, _PROGRAM_SLOTS)
    if program.best is None:
        return []
    start = space.with_parts(space.keep_all, pipeline=program.best.pipeline)
    filled = _fastest_filled(space, evaluator, start)
    plans = [program.best] if filled is None else [program.best, filled]
    return [plan for plan in plans if evaluator.score(plan).feasible]


def filled_pipelines(space: Space, evaluator: Evaluator) -> list[Schedule]:
    """The fastest fitting schedule of every shape and way to cut, fastest first.

    Pipelines come in the order of their seconds with everything kept. Filling makes a pipeline
    slower, so those that are far behind the best filled one by then are left out.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    pipelines = list(_pipelines(space))
    kept = [space.with_parts(space.keep_all, pipeline=pipeline) for pipeline in pipelines]
    least_s = [score.step_time_s for score in evaluator.score_all(kept)]
    found: dict[Schedule, float] = {}
    for index in sorted(range(len(kept)), key=least_s.__getitem__):
        if found and least_s[index] > _TOO_SLOW * min(found.values()):
            break
        best = _fastest_filled(space, evaluator, kept[index])
        if best is not None:
            found[best] = evaluator.score(best).step_time_s
    return sorted(found, key=found.__getitem__)


def _fastest_filled(space: Space, evaluator: Evaluator, start: Schedule) -> Schedule | None:
    """The best of some pricings and paces; None if none fits."""
    pricings = _PRICINGS if space.can_offload else _PRICINGS[:1]
    found: dict[Schedule, float] = {}
    for pricing in pricings:
        changes = changes_of(space, pricing)
        for begin in beginnings(space, start):
            schedule = fill(space, evaluator, begin, changes)
            if schedule is not None and (score := evaluator.score(schedule)).feasible:
                found[schedule] = score.step_time_s
    return min(found, key=found.__getitem__, default=None)


def _pipelines(space: Space) -> Iterator[PipelinePlan]:
    """Every shape with every way to cut it, the standard pipeline first."""
    yield space.pipeline
    for shape in space.shapes:
        for cuts in _cuts(space, shape):
            pipeline = shape.cut(cuts)
            if pipeline != space.pipeline:
                yield pipeline


def _cuts(space: Space, shape: Shape) -> list[tuple[int, ...]]:
    """Equal seconds, equal numbers of units; those of the partition program come on top."""
    units = space.problem.chains[shape.micro_batches].units
    seconds = [unit.forward_s + unit.backward_s for unit in units]
    balanced = balanced_cuts(seconds, shape.num_stages)
    uniform = uniform_cuts(space.num_units, shape.num_stages)
    return [balanced] if balanced == uniform else [balanced, uniform]
