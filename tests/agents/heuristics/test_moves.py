from __future__ import annotations

from random import Random

import pytest

from remora.agents.heuristics.moves import random_move
from remora.agents.heuristics.neighbours import neighbours
from remora.agents.heuristics.space import Space
from remora.schedule.problem import Problem
from remora.schedule.validate import validate
from tests.agents.budgets import with_fixed_unit
from tests.problems import cpu_hardware, problem_of, toy_graph
from tests.schedule.plans import random_schedule


def problems() -> list[Problem]:
    graph = toy_graph((64, 32, 64, 16, 64, 32, 64), batch=64)
    return [
        problem_of(graph),
        problem_of(graph, hardware=cpu_hardware("none")),
        problem_of(with_fixed_unit(graph, 3)),
    ]


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("seed", range(4))
def test_a_random_walk_stays_valid_and_gets_around(index: int, seed: int) -> None:
    problem = problems()[index]
    space = Space(problem)
    rng = Random(seed)
    current = space.keep_all
    seen = {current}
    for _ in range(200):
        current = random_move(space, current, rng)
        validate(problem, current)
        seen.add(current)
    assert len(seen) > 60


@pytest.mark.parametrize("seed", range(8))
def test_neighbours_of_any_plan_are_valid(seed: int) -> None:
    problem = problems()[0]
    space = Space(problem)
    start = random_schedule(problem.graph, seed)
    steps = list(neighbours(space, start))
    assert steps
    for step in steps:
        validate(problem, step(space, start))


def test_equal_plans_are_built_equal() -> None:
    space = Space(problems()[0])
    for unit in range(space.num_units):
        for choice in space.choices[unit]:
            schedule = space.with_choices(space.keep_all, {unit: choice})
            assert space.choice_of(schedule, unit) == choice
            assert space.with_parts(schedule) == schedule
            back = space.with_choices(schedule, {unit: space.choices[unit][0]})
            assert back == space.keep_all
