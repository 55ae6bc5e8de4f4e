"""What holds for every scheduler, whatever it does inside."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from remora.agents.fixed_plan import FixedPlan
from remora.agents.registry import create, plans_mode, scheduler_names
from remora.errors import InfeasibleError, InvalidInputError
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from remora.simulator.simulate import simulate
from tests.agents.budgets import at_range, uneven_problem, with_fixed_unit
from tests.problems import cpu_hardware, problem_of, toy_graph, zoo_graph

# A policy is read from files, so it has tests of its own.
NAMES = tuple(
    name for name in scheduler_names() if name != "learned" and plans_mode(name, Mode.TRAIN)
)
FEW = {"evaluations": 60}
SEARCHES = (
    "annealing",
    "best",
    "learned",
    "local_search",
    "offload_only",
    "pipeline_only",
    "recompute_only",
)
SMALL = {"random": {"samples": 3}, **dict.fromkeys(SEARCHES, FEW)}
# These search a part of the language, which need not reach down to the floor.
PARTIAL = ("offload_only", "pipeline_only")
LONG_S = 120.0


@functools.cache
def problem_named(name: str) -> Problem:
    if name == "uneven_offload":
        return uneven_problem(0.3)
    if name == "uneven_recompute":
        return uneven_problem(0.2, host_pool="none")
    if name == "fixed_unit":
        return at_range(problem_of(with_fixed_unit(toy_graph((64, 64, 16, 64), 64), 2)), 0.4)
    if name == "everything_fits":
        return uneven_problem(1.0)
    return at_range(problem_of(zoo_graph("unet_tiny"), hardware=cpu_hardware("none")), 0.3)


PROBLEMS = ("uneven_offload", "uneven_recompute", "fixed_unit", "everything_fits", "unet")


def answer(name: str, problem: Problem) -> Schedule | InfeasibleError:
    try:
        return create(name, **SMALL.get(name, {})).propose(problem, LONG_S)
    except InfeasibleError as error:
        return error


@pytest.mark.parametrize("problem_name", PROBLEMS)
@pytest.mark.parametrize("name", NAMES)
def test_answers_fit_or_say_what_would(name: str, problem_name: str) -> None:
    problem = problem_named(problem_name)
    result = answer(name, problem)
    if isinstance(result, InfeasibleError):
        fixed = isinstance(create(name), FixedPlan)
        assert fixed or name in PARTIAL, "only these fail above the floor"
        assert result.smallest_budget_bytes is not None
        assert result.smallest_budget_bytes > problem.budget_bytes
        assert sum(result.breakdown.values()) == result.smallest_budget_bytes
        return
    assert simulate(problem, result).max_peak_bytes <= problem.budget_bytes
    assert schedule_from_json(schedule_to_json(result)) == result


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_schedule(name: str) -> None:
    problem = problem_named("uneven_offload")
    first, second = answer(name, problem), answer(name, problem)
    assert isinstance(first, InfeasibleError) or first == second


@pytest.mark.parametrize("host_pool", ["emulated", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_budget_named_is_one_that_works(name: str, host_pool: str) -> None:
    impossible = dataclasses.replace(uneven_problem(0.0, host_pool), budget_bytes=1000)
    error = answer(name, impossible)
    assert isinstance(error, InfeasibleError)
    assert error.exit_code == 3
    assert error.smallest_budget_bytes is not None
    assert str(error.smallest_budget_bytes) in str(error)
    enough = dataclasses.replace(impossible, budget_bytes=error.smallest_budget_bytes)
    result = answer(name, enough)
    assert isinstance(result, Schedule)
    assert simulate(enough, result).max_peak_bytes <= error.smallest_budget_bytes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("time_limit_s", [0.0, -1.0, float("nan")])
def test_a_time_limit_must_be_positive(name: str, time_limit_s: float) -> None:
    with pytest.raises(InvalidInputError, match="time_limit_s"):
        create(name).propose(problem_named("everything_fits"), time_limit_s)


def test_too_little_host_memory_makes_offload_infeasible() -> None:
    problem = uneven_problem(0.3)
    host = dataclasses.replace(problem.hardware.host, memory_bytes=1)
    tight = dataclasses.replace(problem, hardware=dataclasses.replace(problem.hardware, host=host))
    assert isinstance(answer("offload_all", tight), InfeasibleError)
    found = answer("greedy", tight)
    assert isinstance(found, Schedule)
    assert max(simulate(tight, found).host_peak_bytes) <= 1


@pytest.mark.parametrize("name", ["greedy", "rotor", "local_search", "best"])
def test_searches_keep_everything_where_it_fits(name: str) -> None:
    # With the optimizer on the host, which costs nothing here, the step would be faster still.
    problem = dataclasses.replace(problem_named("everything_fits"), state_on_device=True)
    found = answer(name, problem)
    kept = answer("keep_all", problem)
    assert isinstance(found, Schedule)
    assert isinstance(kept, Schedule)
    fastest = simulate(problem, kept).step_time_s
    assert simulate(problem, found).step_time_s == pytest.approx(fastest, rel=1e-9)
