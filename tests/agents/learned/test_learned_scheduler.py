"""Scheduler ``learned`` behind the face of all schedulers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from random import Random

import pytest

from remora.agents.evaluation import Evaluator
from remora.agents.heuristics.random_plans import random_plan
from remora.agents.heuristics.space import Space
from remora.agents.learned.policy_files import save_policy
from remora.agents.registry import create
from remora.agents.scheduler import Scheduler
from remora.errors import InfeasibleError, InvalidInputError, UnknownNameError
from remora.schedule.problem import Problem
from remora.simulator.floor import floor_peak_bytes
from remora.simulator.simulate import simulate
from tests.agents.learned.policies import untrained
from tests.envs.toy import toy_case, toy_tables


@pytest.fixture
def policy(tmp_path: Path) -> str:
    save_policy(tmp_path / "policy", untrained(), {})
    return str(tmp_path / "policy")


def _problem(share: float) -> Problem:
    return dataclasses.replace(toy_case().problem, budget_bytes=toy_tables().budget_bytes(share))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_even_an_untrained_policy_proposes_plans_that_fit(policy: str, share: float) -> None:
    problem = _problem(share)
    schedule = create("learned", policy=policy, samples=2).propose(problem, 60.0)
    assert simulate(problem, schedule).max_peak_bytes <= problem.budget_bytes


def test_the_same_seed_gives_the_same_schedule(policy: str) -> None:
    scheduler = create("learned", policy=policy, samples=3, seed=5)
    problem = _problem(0.4)
    assert scheduler.propose(problem, 60.0) == scheduler.propose(problem, 60.0)
    assert isinstance(scheduler, Scheduler)
    assert scheduler.name == "learned"


def test_more_samples_never_make_it_worse(policy: str) -> None:
    problem = _problem(0.2)
    times_s = [
        simulate(
            problem, create("learned", policy=policy, samples=samples).propose(problem, 60.0)
        ).step_time_s
        for samples in (0, 2, 8)
    ]
    assert times_s == sorted(times_s, reverse=True)


def test_below_the_least_the_error_names_what_is_needed(policy: str) -> None:
    least = toy_tables().least_peak_bytes
    problem = dataclasses.replace(_problem(0.0), budget_bytes=least - 1)
    with pytest.raises(InfeasibleError, match="needs at least") as caught:
        create("learned", policy=policy).propose(problem, 60.0)
    assert caught.value.smallest_budget_bytes is not None
    assert caught.value.smallest_budget_bytes >= min(least, floor_peak_bytes(problem))
    assert caught.value.breakdown


def test_where_only_recomputation_by_rule_fits_it_answers_with_that(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remora.envs.tables import CaseTables

    problem = _problem(0.0)
    monkeypatch.setattr(CaseTables, "least_peak_bytes", problem.budget_bytes + 1)
    schedule = create("learned", policy=policy).propose(problem, 60.0)
    assert simulate(problem, schedule).max_peak_bytes <= problem.budget_bytes


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InvalidInputError, match="samples is -1"):
        create("learned", samples=-1)
    with pytest.raises(UnknownNameError, match="pretrained policy 'nobody'"):
        create("learned", policy="nobody").propose(_problem(0.5), 60.0)


def test_the_shipped_policy_beats_random_plans_of_whole_units_on_a_toy() -> None:
    problem = _problem(0.3)
    learned = simulate(problem, create("learned").propose(problem, 60.0)).step_time_s
    evaluator, space, rng = Evaluator(problem, 60.0), Space(problem, mixed=False), Random(0)
    for _ in range(4):
        random_plan(space, evaluator, rng)
    assert evaluator.best is not None
    assert learned <= evaluator.score(evaluator.best).step_time_s * (1 + 1e-9)
