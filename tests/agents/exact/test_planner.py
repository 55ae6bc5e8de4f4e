from __future__ import annotations

import itertools

import pytest

from remora.agents.evaluation import Evaluator, score_of
from remora.agents.exact.chains.rotor import Segment
from remora.agents.exact.chains.rotor_of_problem import rotor_chain
from remora.agents.exact.chains.rotor_scheduler import Rotor, plan_of, rotor_search
from remora.agents.heuristics.space import Space
from remora.schedule.problem import Problem
from remora.schedule.schedule import Group
from remora.simulator.simulate import simulate
from tests.agents.budgets import at_range, uneven_problem, with_fixed_unit
from tests.problems import cpu_hardware, problem_of, toy_graph, zoo_graph

LONG_S = 120.0


def even_problem(share: float) -> Problem:
    graph = toy_graph((64,) * 10, batch=64)
    return at_range(problem_of(graph, hardware=cpu_hardware("none")), share)


@pytest.mark.parametrize("name", ["gpt2_tiny", "unet_tiny"])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_plans_replay_within_the_budget(name: str, share: float) -> None:
    problem = at_range(problem_of(zoo_graph(name), hardware=cpu_hardware("none")), share)
    schedule = Rotor(slots=200).propose(problem, LONG_S)
    assert simulate(problem, schedule).max_peak_bytes <= problem.budget_bytes


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_no_choice_of_single_units_is_much_faster_on_a_chain(share: float) -> None:
    problem = uneven_problem(share, host_pool="none")
    space = Space(problem)
    scores = [score_of(problem, space.build(plan)) for plan in itertools.product(*space.menus)]
    single = min((s.step_time_s for s in scores if s.feasible), default=float("inf"))
    found = score_of(problem, Rotor().propose(problem, LONG_S))
    assert found.step_time_s <= single * 1.02


def test_more_memory_is_never_slower() -> None:
    times = []
    for share in (0.05, 0.2, 0.4, 0.6, 0.8, 1.0):
        problem = even_problem(share)
        times.append(score_of(problem, Rotor().propose(problem, LONG_S)).step_time_s)
    assert times == sorted(times, reverse=True)


def test_units_that_cannot_be_recomputed_stay_outside_of_groups() -> None:
    graph = with_fixed_unit(toy_graph((64,) * 10, batch=64), 4)
    problem = at_range(problem_of(graph, hardware=cpu_hardware("none")), 0.2)
    schedule = Rotor().propose(problem, LONG_S)
    groups = [g for top in schedule.memory.groups for g in top.walk()]
    assert not any(g.start <= 4 < g.end for g in groups)
    assert score_of(problem, schedule).feasible


def test_segments_become_groups_and_single_stages_recompute_options() -> None:
    problem = even_problem(1.0)
    space = Space(problem)
    segment = Segment(1, 6, (1, Segment(2, 4, (2, 3)), Segment(4, 5, (4,)), 5))
    schedule = plan_of(space, (0, segment, Segment(6, 7, (6,)), 7))
    assert schedule.memory.groups == (Group(1, 6, children=(Group(2, 4),)),)
    recomputed = [
        unit
        for unit, option in enumerate(schedule.memory.options)
        if option == space.recompute(unit) != space.menus[unit][0]
    ]
    assert recomputed == [4, 6]


def test_the_chain_matches_the_problem() -> None:
    problem = even_problem(0.5)
    chain = rotor_chain(problem)
    assert chain.num_stages == len(problem.graph.units)
    work = zip(problem.chain.units, chain.forward_time, chain.backward_time, strict=True)
    free_s = sum(forward + backward for unit, forward, backward in work if not unit.fixed)
    fixed_s = sum(u.forward_s + u.backward_s for u in problem.chain.units if u.fixed)
    step_s = simulate(problem, Space(problem).keep_all).step_time_s
    assert free_s + fixed_s + problem.cost.optimizer_time_s == pytest.approx(step_s)
    assert all(s >= b for s, b in zip(chain.saved_size, chain.boundary_size[1:], strict=True))


def test_nothing_is_solved_where_everything_fits() -> None:
    problem = even_problem(1.0)
    evaluator = Evaluator(problem, LONG_S)
    rotor_search(Space(problem), evaluator, 100)
    assert evaluator.evaluations == 1
