"""What holds for every scheduler on problems of several ranks."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest

from remora.agents.evaluation import Evaluator, score_of
from remora.agents.heuristics.shapes import shapes_of
from remora.agents.heuristics.space import Space
from remora.agents.registry import create, plans_mode, plans_one_device, scheduler_names
from remora.errors import InfeasibleError, InvalidInputError, TimeLimitError
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.simulate import simulate
from tests.agents.several_ranks import ranks_problem
from tests.agents.test_schedulers import PARTIAL, SMALL

LONG_S = 120.0
NAMES = tuple(n for n in scheduler_names() if plans_mode(n, Mode.TRAIN))
SINGLE = tuple(n for n in NAMES if plans_one_device(n))
SEVERAL = tuple(n for n in NAMES if n not in (*SINGLE, "cp_sat"))


@functools.cache
def problem_at(share: float) -> Problem:
    return ranks_problem(2, share)


def answer(name: str, problem: Problem) -> Schedule | InfeasibleError:
    try:
        return create(name, **SMALL.get(name, {})).propose(problem, LONG_S)
    except InfeasibleError as error:
        return error


@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("name", SEVERAL)
def test_plans_are_valid_and_fit(name: str, share: float) -> None:
    problem = problem_at(share)
    result = answer(name, problem)
    if isinstance(result, InfeasibleError):
        assert result.smallest_budget_bytes is not None
        assert result.smallest_budget_bytes > problem.budget_bytes
        return
    assert simulate(problem, result).max_peak_bytes <= problem.budget_bytes


@pytest.mark.parametrize("name", SINGLE)
def test_those_for_one_device_say_so(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"world_size is 2 and scheduler '{name}' plans"):
        create(name).propose(problem_at(0.6), LONG_S)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_smallest_budget_named_is_one_that_works(name: str) -> None:
    impossible = dataclasses.replace(problem_at(0.0), budget_bytes=1000)
    error = answer(name, impossible)
    assert isinstance(error, InfeasibleError)
    assert error.smallest_budget_bytes is not None
    enough = dataclasses.replace(impossible, budget_bytes=error.smallest_budget_bytes)
    result = answer(name, enough)
    assert isinstance(result, Schedule)
    assert simulate(enough, result).max_peak_bytes <= error.smallest_budget_bytes


@pytest.mark.parametrize("name", [n for n in SEVERAL if n not in PARTIAL])
def test_a_fixed_number_of_micro_batches_is_kept(name: str) -> None:
    problem = ranks_problem(2, 1.0, fixed=4)
    result = answer(name, problem)
    if isinstance(result, Schedule):
        assert result.pipeline.micro_batches == 4
    else:
        assert name == "recompute_all"  # its peak may be above that of keeping everything


def pipelines_of_every_cut(problem: Problem) -> list[Schedule]:
    """Everything kept, under every pipeline there is."""
    space = Space(problem)
    return [
        space.with_parts(space.keep_all, pipeline=shape.cut(cuts))
        for shape in shapes_of(problem)
        for cuts in itertools.combinations(range(1, space.num_units), shape.num_stages - 1)
    ]


def test_pipeline_only_finds_the_fastest_of_all_pipelines() -> None:
    problem = ranks_problem(2, 1.0, hidden=(64, 16, 48, 32))
    plans = pipelines_of_every_cut(problem)
    scores = Evaluator(problem, LONG_S).score_all(plans)
    least_s = min(score.step_time_s for score in scores if score.feasible)
    found = create("pipeline_only", evaluations=2000).propose(problem, LONG_S)
    assert score_of(problem, found).step_time_s == pytest.approx(least_s, rel=1e-9)


def test_deciding_jointly_is_never_worse_than_one_lever_alone() -> None:
    problem = problem_at(0.3)
    joint = create("best", evaluations=1500).propose(problem, LONG_S)
    mine = score_of(problem, joint)
    for name in ("recompute_only", "offload_only", "pipeline_only"):
        alone = answer(name, problem)
        if isinstance(alone, Schedule):
            assert mine.step_time_s <= score_of(problem, alone).step_time_s * 1.0001


@pytest.mark.parametrize("name", [n for n in SEVERAL if n not in PARTIAL])
def test_almost_no_time_still_ends_in_an_answer_or_says_so(name: str) -> None:
    problem = problem_at(0.0)
    try:
        result = create(name, **SMALL.get(name, {})).propose(problem, 1e-3)
    except (InfeasibleError, TimeLimitError):
        return
    assert simulate(problem, result).max_peak_bytes <= problem.budget_bytes
