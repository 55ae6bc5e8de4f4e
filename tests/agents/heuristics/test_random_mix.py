from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from remora.agents.heuristics.random_mix import random_mix
from remora.schedule.menu import keep_all_schedule
from remora.schedule.validate import validate
from tests.problems import problem_of, toy_graph


@given(st.integers(0, 10**6), st.floats(0, 1), st.booleans())
def test_mixes_are_valid(seed: int, keep_share: float, grouped: bool) -> None:
    problem = problem_of(toy_graph())
    mix = random_mix(problem, Random(seed), keep_share, grouped)
    validate(problem, mix)
    assert len(mix.memory.options) == len(problem.graph.units)
    assert grouped or not mix.memory.groups
    assert mix == random_mix(problem, Random(seed), keep_share, grouped)


def test_keeping_everything_without_groups_is_keep_all() -> None:
    problem = problem_of(toy_graph())
    mix = random_mix(problem, Random(0), keep_share=1.0, grouped=False)
    assert mix.memory.options == keep_all_schedule(problem.graph).memory.options
    assert mix.memory.groups == ()
