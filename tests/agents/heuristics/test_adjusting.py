"""A plan for a changed problem: it fits, it is as good as one made anew, and it changes little."""

from __future__ import annotations

import dataclasses

import pytest

from remora.agents.evaluation import Evaluator, score_of
from remora.agents.heuristics.adjusting import adjust, keep_what_can_be_kept
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span
from remora.agents.registry import create
from remora.errors import InfeasibleError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from tests.agents.budgets import at_range, uneven_problem
from tests.agents.several_ranks import ranks_problem
from tests.problems import cpu_hardware, problem_of, toy_graph

LONG_S = 60.0
SHORT_S = 0.4
WORTH = 1.005


def slower_link(problem: Problem, factor: float) -> Problem:
    costs = dataclasses.replace(
        problem.cost,
        d2h_bytes_per_s=problem.cost.d2h_bytes_per_s * factor,
        h2d_bytes_per_s=problem.cost.h2d_bytes_per_s * factor,
    )
    return dataclasses.replace(problem, costs={1: costs})


def greedy(problem: Problem) -> Schedule:
    return create("greedy").propose(problem, LONG_S)


def num_changes(first: Schedule, second: Schedule) -> int:
    pairs = zip(first.memory.options, second.memory.options, strict=True)
    return sum(a != b for a, b in pairs)


def test_a_plan_that_is_still_good_stays() -> None:
    problem = uneven_problem(0.5)
    present = greedy(problem)
    assert adjust(problem, present, SHORT_S) == present
    more = dataclasses.replace(problem, budget_bytes=problem.budget_bytes + 1)
    assert adjust(more, present, SHORT_S) == present


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("factor", [1.0, 0.2])
def test_it_fits_and_is_as_good_as_a_greedy_plan_made_anew(share: float, factor: float) -> None:
    present = greedy(uneven_problem(0.6))
    changed = slower_link(uneven_problem(share), factor)
    found = score_of(changed, adjust(changed, present, SHORT_S))
    assert found.feasible
    assert found.step_time_s <= WORTH * score_of(changed, greedy(changed)).step_time_s


def test_only_what_pays_is_changed() -> None:
    graph = toy_graph((64,) * 14, batch=64)
    base = problem_of(graph, hardware=cpu_hardware("none"))
    present = greedy(at_range(base, 0.6))
    tighter = at_range(base, 0.5)
    # Long enough for its search on a busy machine, too.
    found = adjust(tighter, present, 5 * SHORT_S)
    assert score_of(tighter, found).feasible
    assert 0 < num_changes(present, found) <= num_changes(present, greedy(tighter))


def test_groups_and_pace_come_back_where_they_cost_nothing() -> None:
    problem = uneven_problem(1.0)
    space = Space(problem)
    present = space.with_parts(space.keep_all, spans=[Span(1, 3)], window=5)
    evaluator = Evaluator(problem, LONG_S)
    slow = evaluator.score(present).step_time_s
    assert slow > evaluator.score(space.keep_all).step_time_s * WORTH
    kept = keep_what_can_be_kept(space, evaluator, present, space.keep_all)
    assert not kept.memory.groups
    assert kept.memory.offload_window == 5
    assert keep_what_can_be_kept(space, evaluator, present, present) == present


def test_pipeline_and_state_stay_unless_everything_may_change() -> None:
    problem = ranks_problem(4, 0.7)
    present = create("rank_greedy").propose(problem, 1.0)
    tighter = ranks_problem(4, 0.3)
    found = adjust(tighter, present, SHORT_S)
    assert (found.pipeline, found.state) == (present.pipeline, present.state)
    wide = adjust(tighter, present, 1.0, everything=True)
    assert score_of(tighter, found).feasible
    assert score_of(tighter, wide).feasible


def test_nothing_that_fits_names_the_smallest_budget() -> None:
    problem = uneven_problem(0.5)
    hopeless = dataclasses.replace(problem, budget_bytes=1000)
    with pytest.raises(InfeasibleError) as caught:
        adjust(hopeless, greedy(problem), SHORT_S)
    smallest = caught.value.smallest_budget_bytes
    assert smallest is not None
    enough = dataclasses.replace(problem, budget_bytes=smallest)
    assert score_of(enough, adjust(enough, greedy(problem), SHORT_S)).feasible
