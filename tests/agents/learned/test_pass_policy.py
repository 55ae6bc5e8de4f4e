"""A policy plans passes: its plans fit, it refuses what it has not learned, and training runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from remora.agents.evaluation import score_of
from remora.agents.heuristics.passes.stream_fewest import StreamFewest
from remora.agents.learned.imitation.lesson import Lesson, Teaching
from remora.agents.learned.imitation.lookahead import LookaheadConfig, look_ahead
from remora.agents.learned.imitation.recorder import record
from remora.agents.learned.imitation.rounds import RoundConfig, improve_demonstrations
from remora.agents.learned.imitation.teachers import asked
from remora.agents.learned.policy_files import Policy, save_policy
from remora.agents.learned.scheduler import DECODES
from remora.agents.learned.selection import BestPolicy, Validation, ValidationProblem
from remora.agents.registry import create
from remora.agents.scheduler import proposed
from remora.envs.passes.tables import PassTables
from remora.errors import InvalidInputError
from remora.schedule.inference import Mode
from tests.agents.learned.policies import untrained
from tests.agents.passes.cases import random_case

LONG_S = 600.0


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("policy")
    save_policy(folder, Policy(untrained(), mode=Mode.INFERENCE))
    return str(folder)


def lesson(case: int) -> Lesson:
    tables = PassTables(f"case-{case}", random_case(case))
    return Lesson(tables, max(tables.problem.budget_bytes, tables.least_bytes))


@pytest.mark.parametrize("case", [0, 1, 5])
@pytest.mark.parametrize("decode", DECODES)
def test_every_decode_ends_in_a_pass_that_fits(decode: str, case: int, policy: str) -> None:
    problem = random_case(case)
    values = {"pass_policy": policy, "decode": decode, "samples": 4, "beam": 4, "evaluations": 20}
    scheduler = create("learned", **values)
    found = scheduler.propose(problem, LONG_S)
    assert score_of(problem, found).feasible
    assert scheduler.propose(problem, LONG_S) == found


def test_where_no_episode_fits_the_search_begins_with_the_heuristic(policy: str) -> None:
    known = random_case(1)
    host = dataclasses.replace(known.hardware.host, memory_bytes=600)
    hardware = dataclasses.replace(known.hardware, host=host)
    # Nothing has to wait, and not everything could.
    problem = dataclasses.replace(known, hardware=hardware, budget_bytes=2**40)
    scheduler = create("learned", pass_policy=policy, search=False)
    found, origin = proposed(scheduler, problem, LONG_S)
    assert origin == "stream_fewest"
    fewest = StreamFewest().propose(problem, LONG_S)
    assert score_of(problem, found).step_time_s <= score_of(problem, fewest).step_time_s


def test_a_policy_of_steps_refuses_passes_in_one_sentence(tmp_path: Path) -> None:
    save_policy(tmp_path, Policy(untrained()))
    scheduler = create("learned", pass_policy=str(tmp_path))
    with pytest.raises(InvalidInputError, match=r"agent\.pass_policy is .*, which has learned"):
        scheduler.propose(random_case(1), 1.0)


def test_what_teachers_show_can_be_learned_and_policies_say_what_they_plan(tmp_path: Path) -> None:
    lessons = tuple(lesson(case) for case in (0, 1, 5))
    teaching = Teaching(lessons)
    for one in lessons:
        teaching = teaching.with_more(asked(one, ("pass_milp", "pass_search"), 2.0))
    assert {shown.source for shown in teaching.shown} <= {"pass_milp", "pass_search"}
    assert len(record(teaching)) == len(teaching.shown) >= len(lessons)
    explored = look_ahead(untrained(), teaching, LookaheadConfig())
    assert len(record(Teaching(teaching.lessons, (), tuple(explored)))) == len(explored)
    problems = [
        ValidationProblem(one.tables, one.budget_bytes, one.best_s) for one in teaching.lessons
    ]
    best = BestPolicy(tmp_path, Validation(problems), 64)
    best.consider(untrained(), 0)
    assert best.best().mode is Mode.INFERENCE


def test_a_round_of_self_imitation_finds_plans_as_good_as_a_search_from_the_heuristic() -> None:
    one = lesson(1)
    found = improve_demonstrations(
        untrained(), Teaching((one,)), RoundConfig(samples=4, evaluations=200)
    )
    problem = one.tables.problem
    searched = create("pass_search", evaluations=200).propose(problem, LONG_S)
    assert found.lessons[0].best_s <= score_of(problem, searched).step_time_s * (1 + 1e-9)
