"""Local search from plans of a policy, and from random ones."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from remora.agents.evaluation import score_of
from remora.agents.learned.local import (
    LocalConfig,
    Starts,
    local_plan,
    policy_starts,
    random_starts,
)
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from tests.agents.learned.imitation.lessons import lesson_at
from tests.agents.learned.policies import untrained
from tests.envs.problems import tables_of

STARTS = {"policy": policy_starts(untrained(), 8), "random": random_starts(8)}


def _problem(name: str, share: float = 0.1) -> Problem:
    tables = lesson_at(name).tables
    return dataclasses.replace(tables.problem, budget_bytes=tables.budget_bytes(share))


@pytest.mark.parametrize("starts", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("name", ["unet_tiny", "unet_tiny/4"])
def test_plans_fit_and_are_faster_than_all_starts(name: str, starts: Starts) -> None:
    problem, tables = _problem(name), lesson_at(name).tables
    config = LocalConfig(evaluations=300)
    found = local_plan(problem, starts, 30.0, config)
    score = score_of(problem, found)
    assert score.feasible
    begun = starts(tables, problem.budget_bytes, lambda: False, np.random.default_rng(0))
    assert len(begun) >= 8
    scores = [score_of(problem, schedule) for schedule in begun]
    assert all(start.feasible for start in scores)
    assert score.step_time_s < min(start.step_time_s for start in scores)
    assert local_plan(problem, starts, 30.0, config) == found


@pytest.mark.parametrize("starts", STARTS.values(), ids=STARTS)
def test_it_ends_in_time_with_a_plan_that_fits(starts: Starts) -> None:
    problem = _problem("gpt2_tiny")
    local_plan(problem, starts, 0.05)
    begun_s = time.perf_counter()
    found = local_plan(problem, starts, 0.3)
    assert time.perf_counter() - begun_s < 1.5
    assert score_of(problem, found).feasible


def test_told_to_stop_at_once_there_is_still_a_start() -> None:
    tables = tables_of("toy")
    for starts in STARTS.values():
        begun = starts(tables, tables.budget_bytes(0.1), lambda: True, np.random.default_rng(0))
        assert begun
        assert score_of(_problem("toy"), begun[0]).feasible


def test_values_and_budgets_are_checked() -> None:
    with pytest.raises(InvalidInputError, match=r"local\.starts is 0; allowed: 1 or more"):
        LocalConfig(starts=0)
    with pytest.raises(InvalidInputError, match=r"local\.plan_share is 0; allowed: more than 0"):
        LocalConfig(plan_share=0)
    problem = dataclasses.replace(tables_of("toy").problem, budget_bytes=1)
    with pytest.raises(InvalidInputError, match="budget_bytes is 1; allowed"):
        local_plan(problem, STARTS["random"], 1.0)
