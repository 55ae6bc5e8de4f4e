"""Searching the variants of a problem: tensor degrees and numbers of replicas."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

from remora.agents.evaluation import Evaluator, SearchEnded, check_time_limit
from remora.errors import InfeasibleError, TimeLimitError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["by_least_seconds", "least_s", "search_variants"]

_QUICK_SHARE = 0.6
"""Of the time, for a quick look at every variant."""

_SEARCHED = 2
"""Variants that are searched to the end."""


def least_s(problem: Problem) -> float:
    """Seconds that no schedule of one variant goes below: its work, shared evenly."""
    ranks = min(problem.pipeline_sizes[0], len(problem.graph.units))
    counts = problem.graphs if problem.micro_batches is None else [problem.micro_batches]
    return min(count * sum(problem.costs[count].op_time_s) for count in counts) / ranks


def by_least_seconds(problem: Problem) -> list[Problem]:
    """A problem and its variants, in the order of :func:`least_s`."""
    return sorted(problem.family, key=least_s)


def search_variants(
    name: str,
    problem: Problem,
    time_limit_s: float,
    quick: Callable[[Evaluator, float], None],
    thorough: Callable[[Evaluator], None],
) -> Schedule:
    """Look at every variant quickly and at the best ones thoroughly.

    Args:
        name: the scheduler that searches, for messages.
        problem: with variants.
        time_limit_s: seconds of all of it.
        quick: looks at one variant, given the seconds of the best schedule so far.
        thorough: searches one variant.

    Raises:
        InfeasibleError: nothing fits.
        TimeLimitError: nothing that fits was found in time.
    """
    check_time_limit(time_limit_s)
    deadline = time.perf_counter() + time_limit_s
    found: dict[int, tuple[float, Schedule]] = {}
    waiting = by_least_seconds(problem)
    error: InfeasibleError | TimeLimitError | None = None
    for position, variant in enumerate(waiting):
        best_s = min((step_s for step_s, _ in found.values()), default=math.inf)
        left_s = deadline - time.perf_counter() - (1 - _QUICK_SHARE) * time_limit_s
        if least_s(variant) >= best_s or (found and left_s <= 0):
            continue
        share_s = max(left_s, time_limit_s / 10) / max(1, min(4, len(waiting) - position))
        evaluator = Evaluator(variant, share_s)
        with suppress(SearchEnded):
            quick(evaluator, best_s)
        try:
            found[position] = _entry(evaluator, evaluator.answer(name))
        except (InfeasibleError, TimeLimitError) as failure:
            error = _nearer(error, failure)
    if not found:
        raise error or InfeasibleError(f"scheduler {name!r} has no schedule for this problem")
    for position in sorted(found, key=lambda place: found[place][0])[:_SEARCHED]:
        left_s = deadline - time.perf_counter()
        if left_s <= 0:
            break
        evaluator = Evaluator(waiting[position], left_s / 2)
        evaluator.score(found[position][1])
        with suppress(SearchEnded):
            thorough(evaluator)
        found[position] = _entry(evaluator, evaluator.answer(name))
    return min(found.values(), key=lambda entry: entry[0])[1]


def _entry(evaluator: Evaluator, schedule: Schedule) -> tuple[float, Schedule]:
    return evaluator.score(schedule).step_time_s, schedule


def _nearer(
    first: InfeasibleError | TimeLimitError | None, second: InfeasibleError | TimeLimitError
) -> InfeasibleError | TimeLimitError:
    """The failure to tell of: running out of time, else the one that lacked least memory."""
    if isinstance(second, TimeLimitError) or first is None:
        return second
    if isinstance(first, TimeLimitError):
        return first
    lacks = [e.smallest_budget_bytes or math.inf for e in (first, second)]
    return first if lacks[0] <= lacks[1] else second
