"""Searching the variants of a problem: tensor degrees and numbers of replicas."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, SearchEnded, check_time_limit
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.space import Space
from remora.errors import InfeasibleError, TimeLimitError
from remora.schedule.cuts import balanced_cuts
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, PipelineKind, PipelinePlan, Schedule

__all__ = ["Look", "first_look", "least_s", "search_variants"]


_FIRST_SHARE = 0.5


@dataclass(frozen=True)
class Look:
    """One way to look at a variant.

    Attributes:
        variants: how many of the best so far are looked at.
        at: scores schedules of one variant in an evaluator, which ends it when its time is over.
    """

    variants: int
    at: Callable[[Evaluator], None]


def least_s(problem: Problem) -> float:
    """Seconds that no schedule of one variant goes below: its work, shared evenly."""
    return min(count * once_s for count, once_s in _seconds_of_parts(problem)) / _ranks(problem)


def _plain_s(problem: Problem) -> float:
    """About the seconds of its fastest plain pipeline: work, and waiting at both ends."""
    ranks = _ranks(problem)
    return min((count + ranks - 1) * s for count, s in _seconds_of_parts(problem)) / ranks


def _seconds_of_parts(problem: Problem) -> list[tuple[int, float]]:
    """(micro-batches, seconds of one through the whole model)."""
    return [(count, sum(problem.costs[count].op_time_s)) for count in _counts(problem)]


def _counts(problem: Problem) -> list[int]:
    return sorted(problem.graphs) if problem.micro_batches is None else [problem.micro_batches]


def _ranks(problem: Problem) -> int:
    """Of the longest pipeline."""
    return min(problem.pipeline_sizes[0], len(problem.graph.units))


def search_variants(
    name: str, problem: Problem, time_limit_s: float, looks: Sequence[Look]
) -> Schedule:
    """Look at all variants at first, then at the best of them more and more thoroughly.

    Variants that no schedule can make faster than the best one are left out.

    Args:
        name: the scheduler that searches, for messages.
        problem: with variants.
        time_limit_s: seconds of all of it; the first look takes half of it at most, and the others
            share the rest evenly.
        looks: what follows the first look.

    Raises:
        InfeasibleError: nothing fits.
        TimeLimitError: nothing that fits was found in time.
    """
    check_time_limit(time_limit_s)
    begin = time.perf_counter()
    found: dict[int, tuple[float, Schedule]] = {}
    variants = sorted(problem.family, key=_plain_s)
    for number, look in enumerate((Look(len(variants), first_look), *looks)):
        later = (1 - _FIRST_SHARE) * number / max(1, len(looks))
        end = begin + (_FIRST_SHARE + later) * time_limit_s
        places = sorted(found, key=lambda place: found[place][0]) or range(len(variants))
        for position, place in enumerate(places[: look.variants]):
            left_s = end - time.perf_counter()
            best_s = min((step_s for step_s, _ in found.values()), default=math.inf)
            if left_s <= 0 or (place not in found and least_s(variants[place]) >= best_s):
                continue
            share_s = left_s / (min(look.variants, len(places)) - position)
            evaluator = Evaluator(variants[place], max(share_s, left_s / 4))
            if place in found:
                evaluator.score(found[place][1])
            with suppress(SearchEnded):
                look.at(evaluator)
            if evaluator.best is not None:
                found[place] = evaluator.score(evaluator.best).step_time_s, evaluator.best
        if not found:
            break
    if not found:
        return _least_memory(name, variants, begin + time_limit_s)
    return min(found.values(), key=lambda entry: entry[0])[1]


def first_look(evaluator: Evaluator) -> None:
    """1F1B with stages of equal seconds: all kept, or all recomputed in the first state that fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    space = Space(evaluator.problem, mixed=False)
    again = space.with_action(Action.RECOMPUTE)
    on_device = [state for state in space.states if not state.moves_with_units]
    for pipeline in _plain_pipelines(evaluator.problem):
        for state in on_device:
            kept = space.with_parts(space.keep_all, pipeline=pipeline, state=state)
            recomputed = space.with_parts(kept, options=again)
            if evaluator.score(kept).feasible or evaluator.score(recomputed).feasible:
                break


def _plain_pipelines(problem: Problem) -> list[PipelinePlan]:
    """One for every number of micro-batches."""
    ranks, counts = _ranks(problem), _counts(problem)
    if ranks == 1:
        return [PipelinePlan(micro_batches=count) for count in counts]
    found = []
    for count in counts:
        seconds = [unit.forward_s + unit.backward_s for unit in problem.chains[count].units]
        kind = PipelineKind.ONE_F_ONE_B if count >= ranks else PipelineKind.GPIPE
        found.append(PipelinePlan(kind, balanced_cuts(seconds, ranks), 1, count))
    return found


def _least_memory(name: str, variants: Sequence[Problem], deadline: float) -> Schedule:
    """Go down to the least memory of one variant after the other, until something fits."""
    failure: InfeasibleError | TimeLimitError | None = None
    for variant in variants:
        left_s = deadline - time.perf_counter()
        if left_s <= 0:
            break
        evaluator = Evaluator(variant, left_s)
        with suppress(SearchEnded):
            find_fitting(Space(variant), evaluator)
        try:
            return evaluator.answer(name)
        except (InfeasibleError, TimeLimitError) as error:
            failure = _nearer(failure, error)
    raise failure or TimeLimitError(f"scheduler {name!r} found no schedule that fits in time")


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
