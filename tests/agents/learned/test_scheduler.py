from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from remora.agents.candidates import run_member
from remora.agents.evaluation import Evaluator, score_of
from remora.agents.heuristics.shapes import Shape
from remora.agents.heuristics.space import Space
from remora.agents.learned.decoding import Decoder
from remora.agents.learned.likely_shapes import likely_shapes
from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.agents.learned.policy_files import Policy, save_policy
from remora.agents.learned.scheduler import DECODES
from remora.agents.registry import create
from remora.agents.scheduler import proposed
from remora.envs.actions import KINDS
from remora.envs.problem_tables import ProblemTables
from remora.errors import InfeasibleError, InvalidInputError, UnknownNameError
from remora.schedule.problem import Problem
from remora.simulator.likely import likely_step_s
from tests.agents.budgets import uneven_problem
from tests.envs.pipeline_problems import pipelines_of
from tests.envs.problems import tables_of

LONG_S = 600.0
TINY = NetworkSize(width=8, rounds=1, heads=2)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("policy")
    torch.manual_seed(0)
    save_policy(folder, Policy(PlanNetwork(TINY)))
    return str(folder)


def problem_at(share: float, ranks: int = 1) -> Problem:
    tables = tables_of("toy") if ranks == 1 else pipelines_of("toy", ranks)
    return dataclasses.replace(tables.problem, budget_bytes=tables.budget_bytes(share))


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("decode", DECODES)
def test_every_decode_ends_in_a_plan_that_fits(decode: str, ranks: int, policy: str) -> None:
    problem = problem_at(0.2, ranks)
    scheduler = create("learned", policy=policy, decode=decode, samples=4, beam=4, evaluations=20)
    found = scheduler.propose(problem, LONG_S)
    assert score_of(problem, found).feasible
    assert scheduler.propose(problem, LONG_S) == found


def test_more_samples_and_a_search_are_never_slower(policy: str) -> None:
    problem = problem_at(0.1)
    ways = ({"decode": "greedy", "search": False}, {"search": False}, {"evaluations": 200})
    times = []
    for way in ways:
        found = create("learned", policy=policy, **way).propose(problem, LONG_S)
        times.append(score_of(problem, found).step_time_s)
    assert times == sorted(times, reverse=True)


def test_a_short_limit_still_ends_in_a_plan(policy: str) -> None:
    problem = problem_at(0.2)
    found = create("learned", policy=policy).propose(problem, 0.05)
    assert score_of(problem, found).feasible


def test_below_what_an_episode_is_sure_to_fit_the_least_memory_is_tried(policy: str) -> None:
    problem = uneven_problem(0.0)
    found = create("learned", policy=policy).propose(problem, LONG_S)
    assert score_of(problem, found).feasible
    with pytest.raises(InfeasibleError):
        create("learned", policy=policy).propose(
            dataclasses.replace(problem, budget_bytes=1), LONG_S
        )


@pytest.mark.parametrize(("ranks", "other"), [(1, "least_memory"), (2, "rank_greedy")])
def test_where_nothing_is_decoded_in_time_it_says_whose_plans_it_began_from(
    ranks: int, other: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, scheduler = problem_at(0.2, ranks), create("learned", policy=policy, evaluations=20)
    assert proposed(scheduler, problem, LONG_S)[1] == ""
    if ranks == 1:
        # There a plan is decoded whatever the time, unless the masks are sure of none.
        problem = dataclasses.replace(problem, budget_bytes=tables_of("toy").least_bytes - 1)
    monkeypatch.setattr(Decoder, "greedy_under", lambda _, asked: [None] * len(asked))
    monkeypatch.setattr(Decoder, "samples", lambda *_: [])
    found, origin = proposed(scheduler, problem, LONG_S)
    assert origin == other
    assert score_of(problem, found).feasible
    row = run_member(scheduler, problem, LONG_S)
    assert row.origin == origin


@pytest.mark.parametrize(("ranks", "other"), [(1, ""), (2, "rank_greedy")])
def test_with_half_of_the_time_gone_pipelines_are_not_decoded(
    ranks: int, other: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remora.agents.learned.scheduler._LEAST_LEFT", 1.0)
    problem, scheduler = problem_at(0.2, ranks), create("learned", policy=policy, evaluations=20)
    found, origin = proposed(scheduler, problem, LONG_S)
    assert origin == other
    assert score_of(problem, found).feasible


def test_the_program_is_asked_about_the_likeliest_pipeline_too(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Shape] = []

    def record(space: Space, evaluator: Evaluator, shapes: list[Shape], limit_s: float) -> Any:
        asked.extend(shapes)
        return []

    problem = problem_at(0.2, 4)
    tables = ProblemTables("likely", problem, focus_bytes=problem.budget_bytes)
    # One that no plan of the policy has, so that it is asked about for its likelihood alone.
    other = likely_shapes(tables, len(tables.shapes))[-1]
    monkeypatch.setattr("remora.agents.learned.local.programmed", record)
    scheduler = create("learned", policy=policy, evaluations=20)
    scheduler.propose(problem, LONG_S)
    assert other not in asked
    monkeypatch.setattr("remora.agents.learned.likely_shapes.likely_shapes", lambda *_: [other])
    scheduler.propose(problem, LONG_S)
    assert other in asked


def test_likely_pipelines_come_in_the_order_of_their_likely_seconds() -> None:
    problem = problem_at(0.2, 4)
    tables = ProblemTables("likely", problem, focus_bytes=problem.budget_bytes)
    seconds = {}
    for one in tables.shapes:
        kind, chunks = KINDS[one.kind]
        shape = Shape(kind, one.num_ranks, chunks, tables.micro_batches[one.count])
        seconds[shape] = likely_step_s(*one.ends[:4], float(problem.budget_bytes))
    found = likely_shapes(tables, 3)
    assert [seconds[shape] for shape in found] == sorted(seconds.values())[:3]
    assert likely_shapes(tables_of("toy"), 3) == []


def test_a_model_larger_than_the_policy_is_for_is_refused(tmp_path: Path) -> None:
    save_policy(tmp_path, Policy(PlanNetwork(TINY), max_units=4))
    with pytest.raises(InvalidInputError, match="has 7 units; allowed for this policy: up to 4"):
        create("learned", policy=str(tmp_path)).propose(problem_at(0.2), LONG_S)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UnknownNameError, match="greedy"):
        create("learned", decode="gready")
    with pytest.raises(InvalidInputError, match="samples is -1"):
        create("learned", samples=-1)
    with pytest.raises(InvalidInputError, match="temperature is 0"):
        create("learned", temperature=0.0)


def test_a_policy_that_is_not_there_is_named_before_anything_is_planned(tmp_path: Path) -> None:
    for policy in ("defualt", str(tmp_path)):
        with pytest.raises(InvalidInputError, match=f"'{policy}'; allowed: .*default"):
            create("learned", policy=policy)
