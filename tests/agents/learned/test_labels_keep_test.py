"""Problems on which greedy is as good as local search are left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from remora.agents.evaluation import score_of
from remora.agents.learned.labels.keep_test import GreedyGapTest, greedy_gap
from remora.agents.registry import create
from remora.envs.building import build_problem
from remora.envs.drawing import BudgetDraw
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError
from tests.agents.learned.test_labels import SPEC, source
from tests.envs.problems import tables_of


def test_the_gap_is_what_local_search_gains() -> None:
    spec = dataclasses.replace(SPEC, range=0.1, model_seed=2, spread=0.8)
    problem = build_problem(spec, *source(spec))
    greedy = score_of(problem, create("rank_greedy").propose(problem, 10.0)).step_time_s
    searcher = create("local_search", evaluations=300)
    found = score_of(problem, searcher.propose(problem, 10.0)).step_time_s
    gap = greedy_gap(problem, 300, 10.0)
    assert gap == pytest.approx(1 - found / greedy)
    assert gap > 0.01


def test_a_problem_with_nothing_to_gain_is_left_out_and_asked_once() -> None:
    tables = tables_of("gpt2_tiny", "none")
    test = GreedyGapTest(evaluations=50, time_limit_s=5.0)
    assert not test(tables, tables.keep_all_bytes)
    generous = GreedyGapTest(least_gap=0.0, evaluations=50, time_limit_s=5.0)
    assert not generous(tables, 2 * tables.keep_all_bytes)
    asked = len(test._known)
    assert not test(tables, tables.keep_all_bytes)
    assert len(test._known) == asked == 1


def test_a_sampler_takes_it() -> None:
    tables = tables_of("toy")
    test = GreedyGapTest(evaluations=20, time_limit_s=5.0)
    sampler = JointSampler([tables], BudgetDraw(0.3, 0.3, elsewhere=0.0), keep=test)
    index, budget = sampler.sample(np.random.default_rng(0))
    assert (index, len(test._known)) == (0, 1)
    assert budget >= tables.least_bytes


def test_where_nothing_fits_there_is_no_gap() -> None:
    problem = dataclasses.replace(tables_of("toy").problem, budget_bytes=1)
    assert greedy_gap(problem, 10, 5.0) == 0.0


def test_bad_values_are_named() -> None:
    with pytest.raises(InvalidInputError, match="least_gap is 1; allowed: 0 to below 1"):
        GreedyGapTest(least_gap=1)
    with pytest.raises(InvalidInputError, match="evaluations is 0; allowed: 1 or more"):
        GreedyGapTest(evaluations=0)
