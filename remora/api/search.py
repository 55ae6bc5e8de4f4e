"""Asking a scheduler for a schedule, and what its rivals would cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remora.agents.best import Best
from remora.agents.candidates import Candidate, candidate_of, run_member
from remora.agents.evaluation import score_of
from remora.agents.registry import create, plans_variants
from remora.agents.scheduler import proposed
from remora.errors import InfeasibleError, TimeLimitError
from remora.garbage import settled
from remora.graph.precision.precision import lossy_precisions
from remora.report.content import CandidateRow
from remora.report.wording import bytes_text
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import CostModel, Estimate

__all__ = ["Found", "candidate_row", "found_within_bound", "search"]

_BASELINES = {Mode.TRAIN: ("keep_all", "recompute_all"), Mode.INFERENCE: ("keep_all", "stream_all")}

_BOUND_ATTEMPTS = 4
"""Bounds stand above peaks by much the same share for all schedules of a problem."""

Listener = Callable[[CandidateRow], None]


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes:
        schedule: the winner; fits the budget.
        candidates: a row for every scheduler that was tried.
        schedules: all different schedules that fit, the winner first.
        search_s: seconds of all of it.
    """

    schedule: Schedule
    candidates: tuple[CandidateRow, ...]
    schedules: tuple[Schedule, ...]
    search_s: float


def search(
    problem: Problem,
    agent: str,
    time_limit_s: float,
    settings: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
) -> Found:
    """Ask a scheduler; one that is no pool is shown beside the plain baselines.

    Args:
        problem: what to plan.
        agent: name of the scheduler.
        time_limit_s: seconds after which it answers with the best so far.
        settings: arguments of the scheduler.
        listener: called with every row as soon as it is there.

    Raises:
        UnknownNameError: no such scheduler or setting.
        InfeasibleError: nothing fits.
        TimeLimitError: nothing was found in time.
    """
    with settled():
        alone = _in_fewer_bits(problem)
        if len(alone) > 1 and not plans_variants(agent, problem.mode):
            return _search_each(alone, agent, time_limit_s, settings, listener)
        return _search(problem, agent, time_limit_s, settings, listener)


def _search(
    problem: Problem,
    agent: str,
    time_limit_s: float,
    settings: Mapping[str, Any] | None,
    listener: Listener | None,
) -> Found:
    """Plan one problem, and let the baselines propose before."""
    start_s = time.perf_counter()

    def tell(candidate: Candidate) -> None:
        if listener is not None:
            listener(candidate_row(candidate))

    scheduler = create(agent, **(settings or {}))
    if isinstance(scheduler, Best):
        schedule, candidates = scheduler.propose_with_candidates(problem, time_limit_s, tell)
    else:
        rivals = [name for name in _BASELINES[problem.mode] if name != agent]
        before = [run_member(create(name), problem, time_limit_s) for name in rivals]
        asked_s = time.perf_counter()
        schedule, origin = proposed(scheduler, problem, time_limit_s)
        mine = candidate_of(agent, problem, schedule, time.perf_counter() - asked_s, origin)
        candidates = (*before, mine)
        for candidate in candidates:
            tell(candidate)
    fitting = [one.schedule for one in candidates if one.feasible and one.schedule is not None]
    return Found(
        schedule=schedule,
        candidates=_marked(schedule, candidates),
        schedules=tuple(dict.fromkeys([schedule, *fitting])),
        search_s=time.perf_counter() - start_s,
    )


def _in_fewer_bits(problem: Problem) -> list[Problem]:
    """The problem and those of its variants that differ in precision alone, each by itself."""
    same = [
        one
        for one in problem.variants
        if (one.tensor_degree, one.replicas) == (problem.tensor_degree, problem.replicas)
    ]
    return [replace(one, variants=()) for one in (problem, *same)]


def _search_each(
    problems: Sequence[Problem],
    agent: str,
    time_limit_s: float,
    settings: Mapping[str, Any] | None,
    listener: Listener | None,
) -> Found:
    """Plan every variant in an equal part of the time, and take the fastest schedule.

    Raises:
        InfeasibleError, TimeLimitError: nothing was found for any; that of the first.
    """
    start_s = time.perf_counter()
    found: list[tuple[float, Found]] = []
    failures: list[InfeasibleError | TimeLimitError] = []
    for problem in problems:
        try:
            one = search(problem, agent, time_limit_s / len(problems), settings)
        except (InfeasibleError, TimeLimitError) as error:
            failures.append(error)
            continue
        found.append((score_of(problem, one.schedule).step_time_s, one))
    if not found:
        raise min(failures, key=_lacking_bytes)
    _, best = min(found, key=lambda entry: entry[0])
    rows = tuple(
        row if one is best else replace(row, name=f"{row.name} in {_bits(one)}", chosen=False)
        for _, one in found
        for row in one.candidates
        if one is best or row.chosen
    )
    if listener is not None:
        for row in rows:
            listener(row)
    schedules = [schedule for _, one in found for schedule in one.schedules]
    return Found(
        schedule=best.schedule,
        candidates=rows,
        schedules=tuple(dict.fromkeys([*best.schedules, *schedules])),
        search_s=time.perf_counter() - start_s,
    )


def _lacking_bytes(error: InfeasibleError | TimeLimitError) -> float:
    """The smallest budget that would do; infinite if that is not known."""
    smallest = error.smallest_budget_bytes if isinstance(error, InfeasibleError) else None
    return math.inf if smallest is None else smallest


def _bits(found: Found) -> str:
    """The precisions of a schedule in a word."""
    units = found.schedule.precision.units
    return " and ".join(lossy_precisions(units)) if units else "the model's precision"


def found_within_bound(
    problem: Problem, cost_model: CostModel, propose: Callable[[Problem], Found]
) -> tuple[Found, Estimate]:
    """Search a schedule whose upper bound on the peak, not only the peak, is within the budget.

    Schedulers compare simulated peaks with a budget, so that budget is lowered as far as the
    bound stands above the peak.

    Args:
        problem: what to plan.
        cost_model: estimates schedules and gives their bounds.
        propose: searches a schedule for the problem under a lower budget.

    Raises:
        InfeasibleError: nothing fits.
    """
    lowered = problem
    for _ in range(_BOUND_ATTEMPTS):
        found = propose(lowered)
        estimate = cost_model.estimate(problem.variant_of(found.schedule), found.schedule)
        if estimate.peak_bound_bytes <= problem.budget_bytes:
            return found, estimate
        # The same schedule must not be found again.
        excess = estimate.peak_bound_bytes / problem.budget_bytes
        lowered = problem.with_budget(math.floor(lowered.budget_bytes / excess) - 1)
    raise InfeasibleError(
        "no schedule was found whose upper bound on the peak is within the budget of "
        f"{bytes_text(problem.budget_bytes)}; that of the last one is "
        f"{bytes_text(estimate.peak_bound_bytes)}",
        smallest_budget_bytes=estimate.peak_bound_bytes,
    )


def _marked(schedule: Schedule, candidates: tuple[Candidate, ...]) -> tuple[CandidateRow, ...]:
    """Rows with the chosen one marked: the first that has the schedule."""
    rows = [candidate_row(candidate) for candidate in candidates]
    for position, candidate in enumerate(candidates):
        if candidate.schedule == schedule:
            rows[position] = replace(rows[position], chosen=True)
            break
    return tuple(rows)


def candidate_row(candidate: Candidate) -> CandidateRow:
    """Return a candidate as a row of the table."""
    return CandidateRow(
        name=candidate.name,
        step_time_s=candidate.step_time_s,
        peak_memory_bytes=candidate.peak_memory_bytes,
        search_s=candidate.search_s,
        feasible=candidate.feasible,
        note=candidate.note,
        origin=candidate.origin,
    )
