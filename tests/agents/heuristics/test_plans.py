"""The rules of the single heuristics."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from remora.agents.evaluation import Evaluator, score_of
from remora.agents.heuristics.random_plans import random_plan
from remora.agents.heuristics.space import Space
from remora.agents.registry import create
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group, Schedule
from tests.agents.budgets import at_range, uneven_problem
from tests.problems import cpu_hardware, problem_of, toy_graph

LONG_S = 120.0


def propose(name: str, problem: Problem, **settings: object) -> Schedule:
    return create(name, **settings).propose(problem, LONG_S)


def long_problem(share: float) -> Problem:
    graph = toy_graph((64,) * 14, batch=64)
    return at_range(problem_of(graph, hardware=cpu_hardware("none")), share)


def test_recompute_all_and_offload_all_take_every_unit_that_can() -> None:
    problem = uneven_problem(1.0)
    space = Space(problem)
    for name, action in (("recompute_all", Action.RECOMPUTE), ("offload_all", Action.OFFLOAD)):
        schedule = propose(name, problem)
        for unit, option in enumerate(schedule.memory.options):
            possible = any(action in choice.distinct for choice in space.menus[unit])
            assert (action in option.distinct) == possible


def test_chen_sqrt_cuts_into_segments_and_keeps_the_last() -> None:
    problem = long_problem(1.0)
    units = len(problem.graph.units)
    groups = propose("chen_sqrt", problem).memory.groups
    assert len(groups) == round(units**0.5) - 1
    assert groups[0].start == 0
    assert groups[-1].end < units
    assert all(a.end == b.start for a, b in itertools.pairwise(groups))
    assert all(isinstance(g, Group) and not g.children for g in groups)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_greedy_beats_the_plans_it_contains(share: float) -> None:
    problem = long_problem(share)
    greedy = score_of(problem, propose("greedy", problem))
    floor = score_of(problem, propose("floor", problem))
    assert greedy.step_time_s <= floor.step_time_s


def test_greedy_leaves_no_change_that_can_be_undone() -> None:
    problem = uneven_problem(0.5)
    space = Space(problem)
    schedule = propose("greedy", problem)
    mine = score_of(problem, schedule)
    for unit in range(space.num_units):
        undone = score_of(problem, space.with_choices(schedule, {unit: space.choices[unit][0]}))
        assert not undone.feasible or not undone.faster_than(mine)


def test_local_search_is_never_worse_than_greedy() -> None:
    problem = uneven_problem(0.3)
    greedy = score_of(problem, propose("greedy", problem))
    searched = score_of(problem, propose("local_search", problem, evaluations=100))
    assert not greedy.faster_than(searched)


def test_random_plans_differ_and_fit_at_any_budget() -> None:
    for share in (0.0, 0.3):
        problem = uneven_problem(share)
        evaluator = Evaluator(problem, LONG_S)
        rng = Random(0)
        plans = [random_plan(Space(problem), evaluator, rng) for _ in range(8)]
        fitting = [plan for plan in plans if plan is not None]
        assert len(fitting) == 8
        assert all(evaluator.score(plan).feasible for plan in fitting)
        assert share == 0.0 or len(set(fitting)) > 2
