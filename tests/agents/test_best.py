from __future__ import annotations

import dataclasses
import itertools

import pytest

from remora.agents.best import POLISHED, Best
from remora.agents.candidates import Candidate
from remora.agents.evaluation import Evaluator, score_of
from remora.agents.heuristics.space import Space
from remora.agents.registry import create
from remora.errors import Interrupted, TimeLimitError
from remora.schedule.menu import plain_menu
from remora.schedule.problem import Problem
from tests.agents.budgets import at_range, uneven_problem
from tests.pipelines import gpu_hardware
from tests.problems import cpu_hardware, problem_of, zoo_graph

LONG_S = 120.0


def brute_force_s(problem: Problem) -> float:
    """Least step time over all options of all units, at the default pace of copies."""
    space = Space(problem)
    assert space.num_units <= 6
    plain = [plain_menu(problem, unit) for unit in problem.graph.units]
    plans = [space.build(plan) for plan in itertools.product(*plain)]
    scores = Evaluator(problem, LONG_S).score_all(plans)
    return min(score.step_time_s for score in scores if score.feasible)


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_best_is_as_good_as_trying_every_option(share: float, seconds: float) -> None:
    problem = uneven_problem(share, seconds=seconds)
    found = Best(evaluations=400).propose(problem, LONG_S)
    assert score_of(problem, found).step_time_s <= brute_force_s(problem) * 1.01


@pytest.mark.parametrize("name", ["resnet_tiny", "unet_tiny"])
def test_best_is_never_worse_than_a_member(name: str) -> None:
    problem = at_range(problem_of(zoo_graph(name), hardware=cpu_hardware("none")), 0.25)
    best = Best(evaluations=60)
    schedule, candidates = best.propose_with_candidates(problem, LONG_S)
    assert [c.name for c in candidates] == [*best.members_for(problem), POLISHED]
    mine = score_of(problem, schedule)
    for candidate in candidates:
        if candidate.feasible:
            assert candidate.schedule is not None
            theirs = score_of(problem, candidate.schedule)
            assert candidate.step_time_s == theirs.step_time_s
            assert candidate.peak_memory_bytes == theirs.peak_bytes
            assert not theirs.faster_than(mine)


def test_where_everything_fits_nothing_is_changed_for_memory_alone() -> None:
    problem = at_range(problem_of(zoo_graph("gpt2_tiny"), hardware=gpu_hardware()), 1.2)
    found, candidates = Best(evaluations=200).propose_with_candidates(problem, LONG_S)
    kept = next(c for c in candidates if c.name == "keep_all")
    assert kept.feasible
    assert found == kept.schedule


def test_plans_that_do_not_fit_are_shown_with_their_figures() -> None:
    problem = uneven_problem(0.2)
    _, candidates = Best(evaluations=20).propose_with_candidates(problem, LONG_S)
    keep_all = next(c for c in candidates if c.name == "keep_all")
    assert not keep_all.feasible
    assert keep_all.note
    assert keep_all.step_time_s is not None
    assert keep_all.peak_memory_bytes is not None
    assert keep_all.peak_memory_bytes > problem.budget_bytes


def test_members_can_be_chosen() -> None:
    problem = uneven_problem(0.5)
    best = create("best", members=["floor", "greedy"], evaluations=0)
    assert isinstance(best, Best)
    _, candidates = best.propose_with_candidates(problem, LONG_S)
    assert [c.name for c in candidates] == ["floor", "greedy", POLISHED]


def test_an_interrupt_returns_the_best_so_far() -> None:
    problem = uneven_problem(0.3)

    def interrupt_after_floor(candidate: Candidate) -> None:
        if candidate.name == "floor":
            raise KeyboardInterrupt

    best = Best(evaluations=60)
    schedule, candidates = best.propose_with_candidates(problem, LONG_S, interrupt_after_floor)
    assert candidates[-1].name == "floor"
    assert schedule in [c.schedule for c in candidates]
    assert score_of(problem, schedule).feasible


def test_an_interrupt_before_any_answer_is_said_so() -> None:
    def interrupt(candidate: Candidate) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="before a schedule that fits"):
        Best().propose_with_candidates(uneven_problem(0.0), LONG_S, interrupt)


def test_a_time_limit_without_an_answer_is_said_so() -> None:
    impossible = dataclasses.replace(uneven_problem(0.0), budget_bytes=1000)
    with pytest.raises(TimeLimitError, match="within 1e-09 s"):
        Best().propose(impossible, 1e-9)


def test_the_polished_plan_says_whose_plan_it_began_from() -> None:
    problem = uneven_problem(0.3)
    best = create("best", members=["floor", "greedy"], evaluations=100)
    assert isinstance(best, Best)
    _, candidates = best.propose_with_candidates(problem, LONG_S)
    by_name = {candidate.name: candidate for candidate in candidates}
    assert by_name[POLISHED].origin in ("floor", "greedy")
    assert by_name["greedy"].origin == ""


def test_a_member_that_would_compile_for_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remora.envs.jit.is_compiled", lambda: False)
    best = create("best", members=["floor", "learned"], evaluations=10)
    assert isinstance(best, Best)
    _, candidates = best.propose_with_candidates(uneven_problem(0.3), LONG_S)
    learned = next(candidate for candidate in candidates if candidate.name == "learned")
    assert not learned.feasible
    assert "python -m remora.envs" in learned.note
