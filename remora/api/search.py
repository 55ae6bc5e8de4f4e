"""Asking a scheduler for a schedule, and what its rivals would cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from remora.agents.best import Best
from remora.agents.candidates import Candidate, candidate_of, run_member
from remora.agents.registry import create
from remora.report.content import CandidateRow
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Found", "search"]

_BASELINES = {Mode.TRAIN: ("keep_all", "recompute_all"), Mode.INFERENCE: ("keep_all", "stream_all")}

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
    start_s = time.perf_counter()

    def tell(candidate: Candidate) -> None:
        if listener is not None:
            listener(_row(candidate))

    scheduler = create(agent, **(settings or {}))
    if isinstance(scheduler, Best):
        schedule, candidates = scheduler.propose_with_candidates(problem, time_limit_s, tell)
    else:
        rivals = [name for name in _BASELINES[problem.mode] if name != agent]
        before = [run_member(create(name), problem, time_limit_s) for name in rivals]
        asked_s = time.perf_counter()
        schedule = scheduler.propose(problem, time_limit_s)
        mine = candidate_of(agent, problem, schedule, time.perf_counter() - asked_s)
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


def _marked(schedule: Schedule, candidates: tuple[Candidate, ...]) -> tuple[CandidateRow, ...]:
    """Rows with the chosen one marked: the first that has the schedule."""
    rows = [_row(candidate) for candidate in candidates]
    for position, candidate in enumerate(candidates):
        if candidate.schedule == schedule:
            rows[position] = replace(rows[position], chosen=True)
            break
    return tuple(rows)


def _row(candidate: Candidate) -> CandidateRow:
    return CandidateRow(
        name=candidate.name,
        step_time_s=candidate.step_time_s,
        peak_memory_bytes=candidate.peak_memory_bytes,
        search_s=candidate.search_s,
        feasible=candidate.feasible,
        note=candidate.note,
    )
