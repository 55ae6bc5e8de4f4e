from __future__ import annotations

import dataclasses

import pytest

from remora.agents.evaluation import Evaluator, Score, SearchEnded
from remora.agents.heuristics.space import Space
from remora.errors import TimeLimitError
from tests.agents.budgets import uneven_problem


def test_a_schedule_is_simulated_once() -> None:
    problem = uneven_problem(0.5)
    evaluator = Evaluator(problem, 60.0)
    space = Space(problem)
    first = evaluator.score(space.keep_all)
    assert evaluator.score(space.keep_all) is first
    assert evaluator.score_all([space.keep_all, space.keep_all]) == [first, first]
    assert evaluator.evaluations == 1


def test_the_number_of_evaluations_is_limited() -> None:
    problem = uneven_problem(0.5)
    evaluator = Evaluator(problem, 60.0, max_evaluations=1)
    space = Space(problem)
    evaluator.score(space.keep_all)
    with pytest.raises(SearchEnded):
        evaluator.score(space.floor)
    evaluator.score(space.keep_all)


def test_the_clock_ends_a_search() -> None:
    now = 0.0
    evaluator = Evaluator(uneven_problem(0.5), 10.0, clock=lambda: now)
    space = Space(evaluator.problem)
    evaluator.score(space.keep_all)
    now = 11.0
    with pytest.raises(SearchEnded):
        evaluator.score(space.floor)
    with pytest.raises(TimeLimitError, match="within 10 s"):
        evaluator.answer("test")


def test_the_best_and_the_leanest_are_remembered() -> None:
    problem = uneven_problem(0.5)
    evaluator = Evaluator(problem, 60.0)
    space = Space(problem)
    evaluator.score(space.keep_all)
    assert evaluator.best is None
    evaluator.score(space.floor)
    assert evaluator.best == evaluator.leanest == space.floor


def test_equal_times_are_told_apart_by_memory() -> None:
    score = Score(1.0, (100,), 100, 0, feasible=True)
    same_sum = dataclasses.replace(score, step_time_s=1.0 + 1e-13)
    assert not same_sum.faster_than(score)
    assert dataclasses.replace(same_sum, peak_bytes=99).faster_than(score)
    assert dataclasses.replace(score, step_time_s=0.9, peak_bytes=200).faster_than(score)
