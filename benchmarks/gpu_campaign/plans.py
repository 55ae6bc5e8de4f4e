"""The schedules that predictions are held against, and the best plan within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.gpu_campaign.subject import NotAsked, Subject
from benchmarks.prediction import random_mix
from remora.agents.best import Best
from remora.agents.candidates import run_member
from remora.agents.registry import create
from remora.agents.scheduler import Scheduler
from remora.api.budget import Budget, BudgetKind
from remora.api.problem import with_budget
from remora.errors import RemoraError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["LABELS", "best_plan", "plan_named"]

FIXED = ("keep_all", "recompute_all", "offload_all", "floor", "chen_sqrt", "selective")
BUDGETED = (
    ("rotor", 0.2),
    ("rotor", 0.5),
    ("greedy", 0.2),
    ("greedy", 0.5),
    ("recompute_offload", 0.3),
    ("local_search", 0.1),
)
MIXES = 5
LABELS = (
    *FIXED,
    *(f"{name} at {point:g}" for name, point in BUDGETED),
    *(f"mix {seed}" for seed in range(MIXES)),
)
"""Names of all plans; `at 0.3` is the point of the useful range of memory."""

# Those of the pool that need no solver.
MEMBERS = (
    "keep_all",
    "recompute_all",
    "offload_all",
    "floor",
    "greedy",
    "greedy_variants",
    "rotor",
    "recompute_offload",
)
_SETTINGS: Mapping[str, Mapping[str, Any]] = {"local_search": {"evaluations": 3000}}
_TIME_LIMIT_S = 4.0


def plan_named(subject: Subject, label: str) -> Schedule:
    """Make one of the plans of :data:`LABELS`.

    Raises:
        NotAsked: the scheduler has none, or it offloads and this machine cannot.
    """
    name, at, rest = label.partition(" at ")
    if label.startswith("mix "):
        return _allowed(random_mix(subject.problem, int(label.removeprefix("mix "))), subject)
    problem = subject.problem
    if at:
        problem = with_budget(problem, Budget(BudgetKind.RANGE, float(rest)))
    return proposed(create(name, **_SETTINGS.get(name, {})), problem, _TIME_LIMIT_S)


def best_plan(problem: Problem, time_limit_s: float) -> Schedule:
    """The best plan that the pool of schedulers finds within the problem's budget.

    Raises:
        NotAsked: nothing fits.
    """
    return proposed(Best(members=MEMBERS), problem, time_limit_s)


def proposed(scheduler: Scheduler, problem: Problem, time_limit_s: float) -> Schedule:
    """What a scheduler proposes.

    Raises:
        NotAsked: nothing.
    """
    try:
        found = run_member(scheduler, problem, time_limit_s)
    except RemoraError as error:
        raise NotAsked(str(error)) from error
    if found.schedule is None:
        raise NotAsked(found.note)
    return found.schedule


def _allowed(schedule: Schedule, subject: Subject) -> Schedule:
    offloads = "offload" in str(schedule.memory).lower()
    if offloads and not subject.hardware.can_offload:
        raise NotAsked("it offloads, and host and device are one memory here")
    return schedule
