"""The least bound over all choices that a schedule has."""

from __future__ import annotations

import math

from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.bounds.choices import choice_of, choices_of, sizes_of
from remora.simulator.bounds.passes import pass_bounds
from remora.simulator.bounds.records import LowerBounds

__all__ = ["lower_bound_s", "lower_bounds", "lower_bounds_like"]

_MEMO = "lower bound"

# Sums of many seconds differ by as much with the order in which they are added up.
_ROUNDING = 1e-12


def lower_bound_s(problem: Problem) -> float:
    """A step time that no schedule of the problem goes below; infinite if none fits.

    Worked out once per problem.
    """
    if _MEMO not in problem.memo:
        problem.memo[_MEMO] = lower_bounds(problem).best_s
    bound_s: float = problem.memo[_MEMO]
    return bound_s


def lower_bounds(problem: Problem) -> LowerBounds:
    """Bounds for all schedules of a problem and its variants whose peak is within its budget.

    Each is the least over all allowed numbers of ranks and micro-batches and placements of the
    state. Choices whose bound without memory is above the best one found need no closer look: a
    schedule of theirs is slower than what is returned.
    """
    if problem.mode is Mode.INFERENCE:
        return _rounded_down(pass_bounds(problem))
    best = LowerBounds(math.inf, math.inf, math.inf, math.inf)
    sizes = [(size, variant) for variant in problem.family for size in sizes_of(variant)]
    for (least_s, num_ranks, micro_batches), variant in sorted(sizes, key=lambda s: s[0]):
        if least_s >= best.memory_s:
            break
        choices = choices_of(variant, num_ranks, micro_batches, limit_s=best.memory_s)
        for choice in sorted(choices, key=lambda choice: choice.path_s):
            if choice.path_s < best.memory_s:
                best = _least(best, choice.bounds())
    return _rounded_down(best)


def lower_bounds_like(problem: Problem, schedule: Schedule) -> LowerBounds:
    """Bounds for the schedules that share some choices with one that is valid.

    These are the kind of the pipeline, its ranks and micro-batches, and where the state lives;
    which weights are streamed is free. In inference they are those for all schedules.
    """
    if problem.mode is Mode.INFERENCE:
        return lower_bounds(problem)
    return _rounded_down(choice_of(problem, schedule).bounds())


def _least(first: LowerBounds, second: LowerBounds) -> LowerBounds:
    return LowerBounds(
        work_s=min(first.work_s, second.work_s),
        path_s=min(first.path_s, second.path_s),
        transfer_s=min(first.transfer_s, second.transfer_s),
        memory_s=min(first.memory_s, second.memory_s),
    )


def _rounded_down(bounds: LowerBounds) -> LowerBounds:
    factor = 1 - _ROUNDING
    return LowerBounds(
        work_s=bounds.work_s * factor,
        path_s=bounds.path_s * factor,
        transfer_s=bounds.transfer_s * factor,
        memory_s=bounds.memory_s * factor,
    )
