"""The problems of rotor, Checkmate and Piper on one cost table, each solved by our own programs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from remora.agents.evaluation import score_of
from remora.agents.registry import create
from remora.api.budget import parse_budget
from remora.api.problem import with_budget
from remora.errors import InfeasibleError, TimeLimitError
from remora.schedule.cuts import default_pipeline
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.simulator.simulate import simulate

__all__ = ["BudgetRow", "SolverRow", "our_curve", "solver_rows"]

_ONE_DEVICE = {
    "rotor": "rotor's problem: nested recomputation of a chain",
    "milp": "Checkmate's problem over the options of units: a MILP",
    "recompute_offload": "POFO's problem",
    "greedy": "",
    "best": "",
}
_RANKS = {"partition": "Piper's problem: cuts and one option per unit", "best": ""}


@dataclass(frozen=True)
class SolverRow:
    """One scheduler on one problem.

    Attributes:
        model: that is planned.
        world_size: number of ranks.
        budget_range: 0 for the least that recomputation reaches, 1 for keeping everything.
        solver: scheduler.
        about: whose problem that is.
        step_time_s: simulated; None where nothing was found.
        over_keep_all: share by which that is above keeping everything.
        peak_bytes: simulated.
        search_s: seconds it took.
        note: why nothing was found.
    """

    model: str
    world_size: int
    budget_range: float
    solver: str
    about: str
    step_time_s: float | None = None
    over_keep_all: float | None = None
    peak_bytes: int | None = None
    search_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class BudgetRow:
    """Our plan for one budget."""

    model: str
    budget_bytes: int
    peak_bytes: int
    step_time_s: float


def solver_rows(
    model: str, problem: Problem, ranges: Sequence[float], time_limit_s: float
) -> list[SolverRow]:
    """Solve the problems of one model at several budgets, by programs for so many ranks.

    Args:
        model: its name.
        problem: of its step; its budget plays no part.
        ranges: budgets.
        time_limit_s: seconds of every run.
    """
    rows: list[SolverRow] = []
    for share in ranges:
        asked = _at(problem, share)
        keep_s = _keep_all_s(asked)
        for solver, about in (_ONE_DEVICE if problem.world_size == 1 else _RANKS).items():
            row = SolverRow(model, problem.world_size, share, solver, about)
            rows.append(_solved(row, asked, keep_s, time_limit_s))
    return rows


def our_curve(
    model: str, problem: Problem, ranges: Sequence[float], time_limit_s: float
) -> list[BudgetRow]:
    """Plan for falling budgets.

    Args:
        model: its name.
        problem: of its step on one device.
        ranges: budgets, falling.
        time_limit_s: seconds of every run.
    """
    rows = []
    for share in ranges:
        asked = _at(problem, share)
        try:
            schedule = create("best").propose(asked, time_limit_s)
        except TimeLimitError:
            # What is left at the low end of a range is the plan that defines it.
            schedule = create("floor").propose(asked, time_limit_s)
        found = score_of(asked, schedule)
        rows.append(BudgetRow(model, asked.budget_bytes, found.peak_bytes, found.step_time_s))
    return rows


def _at(problem: Problem, share: float) -> Problem:
    """The problem at a budget between its own peaks."""
    return with_budget(problem, parse_budget(f"range:{share}"))


def _keep_all_s(problem: Problem) -> float:
    """Step time with everything kept, whatever the budget, in the default pipeline."""
    pipeline = default_pipeline(problem)
    return simulate(problem, keep_all_schedule(problem.graph, pipeline)).step_time_s


def _solved(row: SolverRow, problem: Problem, keep_s: float, time_limit_s: float) -> SolverRow:
    start_s = time.perf_counter()
    try:
        schedule = create(row.solver).propose(problem, time_limit_s)
    except (InfeasibleError, TimeLimitError) as error:
        return replace(row, note=str(error), search_s=time.perf_counter() - start_s)
    search_s = time.perf_counter() - start_s
    score = score_of(problem, schedule)
    return replace(
        row,
        step_time_s=score.step_time_s,
        over_keep_all=score.step_time_s / keep_s - 1,
        peak_bytes=score.peak_bytes,
        search_s=search_s,
    )
