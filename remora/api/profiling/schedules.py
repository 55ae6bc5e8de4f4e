"""Which schedules of a model are measured: good ones over the range of budgets, and random ones."""

from __future__ import annotations

from random import Random

from remora.agents.heuristics.random_mix import random_mix
from remora.agents.registry import create
from remora.api.budget import Budget, BudgetKind
from remora.api.problem import with_budget
from remora.errors import InfeasibleError, InvalidInputError, TimeLimitError
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.schedule.validate import validate
from remora.simulator.floor import floor_schedule

__all__ = ["KEEP_ALL", "schedules_to_measure"]

KEEP_ALL = "keep all"
_TIME_LIMIT_S = 2.0
_GOOD_SHARE = 0.4
_DRAWS = 20


def schedules_to_measure(problem: Problem, count: int, seed: int) -> dict[str, Schedule]:
    """Choose schedules by label: keep-all, least memory, greedy plans between, random mixes.

    Args:
        problem: one device; its budget plays no part.
        count: how many; fewer where a model has no more that differ.
        seed: of the budgets and the mixes.

    Returns:
        Different schedules, keep-all first.
    """
    rng = Random(seed)
    chosen = {KEEP_ALL: keep_all_schedule(problem.graph)}
    if count > 1:
        _add(chosen, "least memory", floor_schedule(problem))
    num_good = round(_GOOD_SHARE * max(0, count - 2))
    for position in range(num_good):
        # One budget from every stretch of the range, anywhere in it.
        share = (position + rng.random()) / num_good
        _add(chosen, f"greedy range:{share:.2f}", _greedy(problem, share))
    for draw in range(_DRAWS):
        if len(chosen) >= count:
            break
        _add(chosen, f"random {draw}", _random(problem, rng))
    return dict(list(chosen.items())[:count])


def _add(chosen: dict[str, Schedule], label: str, schedule: Schedule | None) -> None:
    """Add a schedule that does something else than those that are there."""
    if schedule is None:
        return
    known = {(one.memory.options, one.memory.groups) for one in chosen.values()}
    if (schedule.memory.options, schedule.memory.groups) not in known:
        chosen[label] = schedule


def _greedy(problem: Problem, share: float) -> Schedule | None:
    budgeted = with_budget(problem, Budget(BudgetKind.RANGE, share))
    try:
        return create("greedy").propose(budgeted, _TIME_LIMIT_S)
    except (InfeasibleError, TimeLimitError):
        return None


def _random(problem: Problem, rng: Random) -> Schedule | None:
    keep_share, grouped = rng.random(), rng.random() < 0.5
    schedule = random_mix(problem, rng, keep_share, grouped)
    try:
        validate(problem, schedule)
    except InvalidInputError:
        return None
    return schedule
