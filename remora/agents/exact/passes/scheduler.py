"""Scheduler ``pass_milp``: the exact choice of what waits on the host, for every pipeline.

The problem. Passes of inference over one or several ranks, a budget in bytes. Weights of a unit
and its cache of keys and values either stay on the device or wait on the host and come in for
every use; a pipeline has a number of ranks and micro-batches and borders between its stages.
Wanted: the fastest pass whose peak is within the budget. For a given pipeline and pace of copies
the choice is solved by an integer program (:mod:`remora.agents.exact.passes.program`); pipelines
are tried from the one whose forwards alone take least, and left out where those take longer than
the best pass found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.exact.passes.program import PassLimits, choose_waiting
from remora.agents.exact.passes.tables import PassTables, pass_tables
from remora.agents.exact.solved import Solved
from remora.agents.heuristics.passes.stream_fewest import fewest_plans
from remora.errors import InvalidInputError
from remora.schedule.inference import Mode
from remora.schedule.pass_space import DISTANCES, PassSpace
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, Schedule

__all__ = ["PassMilp", "solve_pass", "solve_passes"]

_WINDOWS = (1, 2)
_MOST_CUTS = 300
"""Up to so many ways of cutting are all tried; of more, those near the balanced one."""

_SHARE_OF_TIME = 0.5
"""A run of the solver may use this part of the time left, so that others get their turn."""

_MOST_ANSWERS = 5
"""A byte over the budget by rounding is taken off the budget so many times."""


@dataclass(frozen=True)
class PassMilp:
    """Every pipeline, from the fastest without copies, each with its best choice.

    Attributes:
        solve_s: most seconds of one run of the integer program.
    """

    solve_s: float = 2.0
    modes: ClassVar = (Mode.INFERENCE,)

    def __post_init__(self) -> None:
        """Check the seconds."""
        if not self.solve_s > 0:
            raise InvalidInputError(f"solve_s is {self.solve_s!r}; allowed: a number above 0")

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "pass_milp"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s, modes=self.modes)
        space = PassSpace(problem)
        with suppress(SearchEnded):
            fewest_plans(space, evaluator)
            solve_passes(space, evaluator, self.solve_s)
        return evaluator.answer(self.name)


def solve_passes(space: PassSpace, evaluator: Evaluator, solve_s: float) -> Solved:
    """Solve every pipeline that could be faster than the best schedule of the evaluator.

    Args:
        space: of the problem.
        evaluator: simulates every choice before it counts.
        solve_s: most seconds of one run of the integer program.

    Returns:
        The best of all; its bound holds for the pipelines and paces that were looked at, which
        are all of them if there are few cuts.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    bound_s = math.inf
    for pipeline in _by_forwards(space):
        if space.least_s(pipeline) >= evaluator.best_s:
            bound_s = min(bound_s, space.least_s(pipeline))
            break
        windows = _WINDOWS if space.caching else _WINDOWS[:1]
        tables = pass_tables(space, pipeline)
        for pace in product(DISTANCES, windows):
            solved = solve_pass(space, evaluator, tables, pace, solve_s)
            bound_s = min(bound_s, solved.bound_s)
    best_s = evaluator.best_s
    return Solved(evaluator.best, best_s, min(bound_s, best_s))


def solve_pass(
    space: PassSpace,
    evaluator: Evaluator,
    tables: PassTables,
    pace: tuple[int, int],
    solve_s: float,
) -> Solved:
    """Choose what waits on the host in one pipeline.

    Args:
        space: of the problem.
        evaluator: simulates the choice before it counts.
        tables: of the pipeline, which stays as it is.
        pace: how many units ahead is asked for, and after how many a cache is written back.
        solve_s: most seconds of the integer program.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    problem = space.problem
    limits = PassLimits(problem.budget_bytes, problem.hardware.host.memory_bytes, *pace)
    bound_s = 0.0
    for _ in range(_MOST_ANSWERS):
        if evaluator.remaining_s <= 0:
            raise SearchEnded
        left_s = min(solve_s, evaluator.remaining_s * _SHARE_OF_TIME)
        choice = choose_waiting(tables, limits, left_s)
        bound_s = max(bound_s, choice.bound_s)
        if choice.waiting is None:
            return Solved(None, math.inf, bound_s)
        schedule = space.build(tables.pipeline, choice.waiting, *pace)
        score = evaluator.score(schedule)
        if score.feasible:
            return Solved(schedule, score.step_time_s, min(bound_s, score.step_time_s))
        over = max(1, score.peak_bytes - problem.budget_bytes)
        limits = replace(limits, device_bytes=limits.device_bytes - over)
    return Solved(None, math.inf, bound_s)


def _by_forwards(space: PassSpace) -> list[PipelinePlan]:
    """Pipelines with all their cuts, by the least seconds of their passes."""
    found = (cut for plan in space.pipelines for cut in _all_cuts(space, plan))
    return sorted(found, key=space.least_s)


def _all_cuts(space: PassSpace, balanced: PipelinePlan) -> Iterator[PipelinePlan]:
    """All ways of cutting into as many stages if they are few, else those near the balanced one."""
    count = len(balanced.cuts)
    if math.comb(space.num_units - 1, count) <= _MOST_CUTS:
        for cuts in combinations(range(1, space.num_units), count):
            yield replace(balanced, cuts=cuts)
        return
    yield balanced
    borders = (0, *balanced.cuts, space.num_units)
    for place, cut in enumerate(balanced.cuts, start=1):
        for moved in (cut - 1, cut + 1):
            if borders[place - 1] < moved < borders[place + 1]:
                cuts = (*balanced.cuts[: place - 1], moved, *balanced.cuts[place:])
                yield replace(balanced, cuts=cuts)
