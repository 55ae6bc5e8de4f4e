"""A running plan, adjusted to the hardware as it is now: other free memory, other link rates."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from remora.agents.candidates import candidate_of
from remora.agents.evaluation import check_time_limit
from remora.agents.heuristics.adjusting import adjust
from remora.api.budget import free_budget_bytes, parse_budget
from remora.api.cost_model_choice import cost_model_of
from remora.api.hardware import is_local
from remora.api.hardware_state import StateLike, find_state, in_state
from remora.api.plan import Plan
from remora.api.plan_files import load
from remora.api.problem import with_budget
from remora.api.search import Found, candidate_row, found_within_bound
from remora.errors import InfeasibleError, InvalidInputError
from remora.garbage import uncollected
from remora.hardware.hardware import Hardware
from remora.schedule.problem import Problem
from remora.simulator.bounds import lower_bound_s
from remora.simulator.compiled import simulator_of
from remora.simulator.records import Estimate

__all__ = ["REPLAN", "TIME_LIMIT_S", "Replanned", "Scope", "replan", "replan_and_compare"]

REPLAN = "replan"
"""What stands in the place of a scheduler's name."""

TIME_LIMIT_S = 0.6

_PRESENT = "present plan"


class Scope(StrEnum):
    """What a new plan may change."""

    OPTIONS = "options"
    ALL = "all"


@dataclass(frozen=True)
class Replanned:
    """A new plan beside the one that it takes the place of.

    Attributes:
        plan: the new one.
        before: the present one, with the figures for which it was made.
        present: figures of the present schedule on the hardware as it is now.
        present_fits: whether that schedule is within the new budget.
        replan_s: seconds from the present plan, loaded, and the state of the hardware to the new
            plan.
    """

    plan: Plan
    before: Plan
    present: Estimate
    present_fits: bool
    replan_s: float


def replan(
    plan: Plan | str | Path,
    memory: int | str | None = None,
    *,
    state: StateLike = None,
    scope: str = "options",
    time_limit_s: float = TIME_LIMIT_S,
    cost_model_weights: str | None = None,
) -> Plan:
    """Adjust a plan to the hardware as it is now, without tracing or measuring the model again.

    Args:
        plan: a plan, or the folder of a saved one.
        memory: new budget per device, as for :func:`remora.optimize`. None keeps the budget as far
            as that much is free; a plan for all free memory follows it up and down.
        state: state of the hardware instead of the one that is read, where the plan is for this
            machine, or that of the plan: some of ``free_memory``, ``host_link_share`` and
            ``link_share``.
        scope: ``options`` keeps pipeline, cuts, micro-batches and places of state; ``all`` may
            change them too.
        time_limit_s: seconds of the search.
        cost_model_weights: folder of the trained ``gnn`` that the plan was made with, if it is
            not the one in the package.

    Returns:
        The new plan; its schedule is that of ``plan`` where that is still as good as any.
        ``handle.update(new)`` puts it in the place of a plan that runs.

    Raises:
        UsageError: an argument is not allowed, or a file is not that of a plan.
        InfeasibleError: nothing fits; carries the smallest budget that does.
        TimeLimitError: nothing was found in time.
    """
    return replan_and_compare(plan, memory, state, scope, time_limit_s, cost_model_weights).plan


def replan_and_compare(
    plan: Plan | str | Path,
    memory: int | str | None = None,
    state: StateLike = None,
    scope: str = "options",
    time_limit_s: float = TIME_LIMIT_S,
    cost_model_weights: str | None = None,
) -> Replanned:
    """Adjust a plan and keep both; see :func:`replan`."""
    if scope not in tuple(Scope):
        raise InvalidInputError(f"scope is {scope!r}, allowed: {', '.join(Scope)}")
    check_time_limit(time_limit_s)
    parse_budget(memory)
    before = plan if isinstance(plan, Plan) else load(_folder(Path(plan)))
    known = before.problem.hardware
    hardware = find_state(known, state, is_local(known), again=True)
    with uncollected():
        return _replanned(before, hardware, memory, Scope(scope), time_limit_s, cost_model_weights)


def _replanned(
    before: Plan,
    hardware: Hardware,
    memory: int | str | None,
    scope: Scope,
    time_limit_s: float,
    cost_model_weights: str | None,
) -> Replanned:
    old = before.problem
    # Reads the compiled kernels, which belongs to the start of the process.
    simulator_of(old).figures(before.schedule)
    start_s = time.perf_counter()
    problem = _with_new_budget(in_state(old, hardware), old, memory)
    cost_model = cost_model_of(problem.cost.source, cost_model_weights)
    present = cost_model.estimate(problem, before.schedule)

    def propose(lowered: Problem) -> Found:
        return _search(lowered, before, scope, time_limit_s)

    found, estimate = found_within_bound(problem, cost_model, propose)
    new = replace(
        before,
        problem=problem,
        schedule=found.schedule,
        estimate=estimate,
        lower_bound_s=lower_bound_s(problem),
        candidates=found.candidates,
        agent=REPLAN,
        search_s=found.search_s,
        verification=None,
    )
    fits = present.peak_bound_bytes <= problem.budget_bytes
    return Replanned(new, before, present, fits, time.perf_counter() - start_s)


def _folder(path: Path) -> Path:
    return path if path.is_dir() or not path.suffix else path.parent


def _with_new_budget(problem: Problem, old: Problem, memory: int | str | None) -> Problem:
    """The problem with the budget that is asked for, or as much of the old one as is free."""
    if memory is not None:
        return with_budget(problem, parse_budget(memory))
    free = free_budget_bytes(problem.hardware)
    follows = old.budget_bytes == free_budget_bytes(old.hardware)
    return replace(problem, budget_bytes=free if follows else min(old.budget_bytes, free))


def _search(problem: Problem, before: Plan, scope: Scope, time_limit_s: float) -> Found:
    start_s = time.perf_counter()
    everything = scope is Scope.ALL
    try:
        schedule = adjust(problem, before.schedule, time_limit_s, everything)
    except InfeasibleError as error:
        if everything:
            raise
        raise InfeasibleError(
            f"{error.message}; scope=all may also change pipeline, cuts, micro-batches and places "
            "of state",
            error.smallest_budget_bytes,
            error.breakdown,
        ) from error
    search_s = time.perf_counter() - start_s
    present = candidate_of(_PRESENT, problem, before.schedule, 0.0)
    rows = [candidate_row(present)]
    if schedule != before.schedule:
        rows.append(candidate_row(candidate_of(REPLAN, problem, schedule, search_s)))
    rows[-1] = replace(rows[-1], chosen=True)
    return Found(schedule, tuple(rows), (schedule,), search_s)
