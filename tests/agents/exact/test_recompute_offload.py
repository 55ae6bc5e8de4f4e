from __future__ import annotations

import dataclasses
from itertools import product

import pytest

from remora.agents.evaluation import Evaluator, score_of, uses_host
from remora.agents.exact.chains.offload_of_problem import offload_chain, schedule_of
from remora.agents.exact.chains.offload_scheduler import RecomputeOffload, recompute_offload_search
from remora.agents.exact.chains.offload_table import Block
from remora.agents.exact.chains.rotor import Segment
from remora.agents.exact.chains.rotor_scheduler import Rotor
from remora.agents.heuristics.space import Space
from remora.errors import InvalidInputError
from remora.schedule.option_prices import price_option
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group
from remora.simulator.simulate import simulate
from tests.agents.budgets import at_range, uneven_problem, with_fixed_unit
from tests.problems import cpu_hardware, problem_of, table, toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem

LONG_S = 60.0
SLOTS = 80


def gpu_problem(share: float, copy_bytes_per_s: float = 5e9, fixed: int | None = None) -> Problem:
    """Even blocks on a device whose copies run beside compute."""
    graph = toy_graph((64,) * 8, batch=64)
    graph = graph if fixed is None else with_fixed_unit(graph, fixed)
    costs = table(graph, copy_bytes_per_s=copy_bytes_per_s, time_scale=5.0)
    costs = dataclasses.replace(costs, copy_latency_s=1e-7)
    hardware = cpu_hardware(device_type="cuda")
    return at_range(problem_of(graph, hardware=hardware, costs=costs), share)


def step_s(problem: Problem) -> float:
    schedule = RecomputeOffload(SLOTS).propose(problem, LONG_S)
    score = score_of(problem, schedule)
    assert score.feasible
    return score.step_time_s


@pytest.mark.parametrize("name", ["gpt2_tiny", "unet_tiny", "t5_tiny"])
@pytest.mark.parametrize("device_type", ["cuda", "cpu"])
def test_plans_replay_within_the_budget(name: str, device_type: str) -> None:
    hardware = cpu_hardware(device_type=device_type)
    problem = at_range(problem_of(zoo_graph(name), hardware=hardware), 0.2)
    schedule = RecomputeOffload(SLOTS).propose(problem, LONG_S)
    assert simulate(problem, schedule).max_peak_bytes <= problem.budget_bytes


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_copies_that_hide_beat_recomputation(share: float) -> None:
    problem = gpu_problem(share)
    rotor = score_of(problem, Rotor(SLOTS).propose(problem, LONG_S))
    schedule = RecomputeOffload(SLOTS).propose(problem, LONG_S)
    assert uses_host(schedule)
    assert score_of(problem, schedule).step_time_s < rotor.step_time_s


def test_few_choices_of_single_units_are_faster() -> None:
    """On a chain with time to copy, against every plan of single units at the best pace."""
    graph = toy_graph((64, 16, 64), batch=64)
    costs = table(graph, copy_bytes_per_s=5e9, time_scale=5.0)
    problem = problem_of(graph, hardware=cpu_hardware(device_type="cuda"), costs=costs)
    problem = at_range(problem, 0.3)
    space = Space(problem)
    plain = [[option for option in menu if len(option.distinct) == 1] for menu in space.menus]
    paces = [(1, 1), (2, 1), (3, 2), (8, 4)]
    scores = Evaluator(problem, LONG_S).score_all(
        [space.build(options, (), *pace) for options in product(*plain) for pace in paces]
    )
    single = min(score.step_time_s for score in scores if score.feasible)
    assert step_s(problem) <= single * 1.03


def test_nothing_moves_where_the_hardware_cannot() -> None:
    problem = at_range(
        problem_of(toy_graph((64,) * 10, batch=64), hardware=cpu_hardware("none")), 0.3
    )
    schedule = RecomputeOffload(SLOTS).propose(problem, LONG_S)
    assert not uses_host(schedule)
    rotor = score_of(problem, Rotor(SLOTS).propose(problem, LONG_S))
    assert score_of(problem, schedule).step_time_s <= rotor.step_time_s * 1.001


def test_more_memory_is_never_slower() -> None:
    times = [step_s(gpu_problem(share)) for share in (0.1, 0.3, 0.6, 1.0)]
    assert times == sorted(times, reverse=True)


def test_units_that_cannot_change_are_left_alone() -> None:
    problem = gpu_problem(0.2, fixed=4)
    schedule = RecomputeOffload(SLOTS).propose(problem, LONG_S)
    groups = [g for top in schedule.memory.groups for g in top.walk()]
    assert not any(g.start <= 4 < g.end for g in groups)
    assert schedule.memory.options[4] == Space(problem).menus[4][0]
    assert score_of(problem, schedule).feasible


def test_a_fixed_number_of_micro_batches_is_planned() -> None:
    graph, hardware = toy_graph((64,) * 6, batch=64), cpu_hardware()
    free = full_problem(graph, 1, micro_batches=(1, 2), hardware=hardware)
    problem = dataclasses.replace(free, micro_batches=2)
    space = Space(problem)
    least, most = (score_of(problem, plan).peak_bytes for plan in (space.floor, space.keep_all))
    problem = dataclasses.replace(problem, budget_bytes=(least + most) // 2)
    schedule = RecomputeOffload(SLOTS).propose(problem, LONG_S)
    assert schedule.pipeline.micro_batches == 2
    assert score_of(problem, schedule).feasible


def test_options_of_the_chain_are_those_of_the_menu() -> None:
    problem = gpu_problem(0.5)
    space = Space(problem)
    chain = offload_chain(problem, space.choices)
    assert chain.overlaps
    assert chain.out_time == 1 / problem.cost.d2h_bytes_per_s
    for unit, (choices, options) in enumerate(zip(space.choices, chain.options, strict=True)):
        assert len(options) == len(choices) - 1
        for choice, option in zip(choices[1:], options, strict=True):
            price = price_option(problem.chain, unit, choice.option)
            assert option.extra_time == price.time_s
            assert 0 <= option.held_size <= price.held_bytes
            if not choice.offload_checkpoint:
                assert option.moved_size >= price.moved_bytes
                assert (option.moved_size > 0) == (price.moved_bytes > 0)


def test_latency_counts_as_bytes() -> None:
    problem = gpu_problem(0.5)
    sooner = dataclasses.replace(problem.cost, copy_latency_s=0.0)
    quick = dataclasses.replace(problem, costs={1: sooner})
    choices = Space(problem).choices
    late, early = (offload_chain(p, choices).moved_input for p in (problem, quick))
    waiting_bytes = problem.cost.copy_latency_s * problem.cost.d2h_bytes_per_s
    assert early[2] == sum(problem.chain.num_bytes(s) for s in problem.chain.private_inputs(2, 3))
    assert late[2] == early[2] + waiting_bytes


def test_blocks_become_groups_and_options() -> None:
    problem = gpu_problem(0.5)
    space = Space(problem)
    segment = Segment(1, 5, (1, Segment(2, 4, (2, 3)), 4))
    plan = [Block(0, way=2), Block(segment, way=1), Block(5), Block(6, way=1), Block(7, way=3)]
    schedule = schedule_of(space, plan, window=3, distance=2)
    kept = [menu[0] for menu in space.menus]
    assert schedule.memory.groups == (
        Group(1, 5, Action.OFFLOAD, (Group(2, 4),)),
        Group(7, 8, Action.OFFLOAD),
    )
    changed = {u: o for u, o in enumerate(schedule.memory.options) if o != kept[u]}
    assert changed == {0: space.menus[0][2], 6: space.menus[6][1]}
    assert schedule.memory.pace_of(0) == (3, 2)


def test_a_unit_that_cannot_be_run_again_gives_no_time_to_copy() -> None:
    problem = gpu_problem(0.5, fixed=4)
    chain = offload_chain(problem, Space(problem).choices)
    assert chain.first_time[4] == problem.chain.units[4].forward_s < chain.chain.forward_time[4]
    assert not chain.options[4]
    assert not chain.moved_input[4]


def test_nothing_is_solved_where_everything_fits() -> None:
    problem = uneven_problem(1.0)
    evaluator = Evaluator(problem, LONG_S)
    recompute_offload_search(Space(problem), evaluator, SLOTS, LONG_S)
    assert evaluator.evaluations == 1


def test_bad_slots_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="slots is 0; allowed: 1 or more"):
        RecomputeOffload(slots=0)
