"""No schedule within its budget is faster than the bounds; where nothing else is wasted, they meet.

Every schedule is held against the bounds at a budget of its own peak, the tightest it fits.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.agents.registry import create
from remora.schedule.menu import keep_all_schedule
from remora.schedule.schedule import (
    PipelineKind,
    Placement,
    StatePlan,
)
from remora.simulator.bounds import LowerBounds, lower_bound_s, lower_bounds, lower_bounds_like
from remora.simulator.floor import floor_schedule
from remora.simulator.simulate import simulate
from tests.agents.budgets import at_range
from tests.executor.memory.plans import random_schedule as half_offloading_schedule
from tests.problems import cpu_hardware, problem_of, toy_graph, zoo_graph
from tests.schedule.full_plans import random_full_schedule
from tests.schedule.plans import random_schedule
from tests.simulator.bound_cases import (
    GRAPHS,
    check,
    fastest_by_peak,
    near_keep_all,
    one_action_everywhere,
    recompute_plans,
    uneven_costs_problem,
    with_budget,
    with_cheap_actions,
)

SEEDS = st.integers(0, 10**6)
RATES = st.sampled_from([1e7, 1e8, 1e9, 1e10, 1e12])
PLACES = (
    (Placement.DEVICE, Placement.DEVICE),
    (Placement.HOST, Placement.DEVICE),
    (Placement.HOST, Placement.HOST),
)


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(GRAPHS),
    seed=SEEDS,
    world_size=st.sampled_from([2, 4, 6]),
    overlap=st.booleans(),
    rate=RATES,
)
def test_no_schedule_of_the_language_is_faster(
    name: str, seed: int, world_size: int, overlap: bool, rate: float
) -> None:
    problem = uneven_costs_problem(name, seed % 2, world_size, overlap, rate, lossy=True)
    check(problem, random_full_schedule(problem, seed))
    check(problem, near_keep_all(problem, seed))


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(GRAPHS),
    seed=SEEDS,
    overlap=st.booleans(),
    rate=RATES,
    lossy=st.booleans(),
)
def test_no_schedule_of_one_rank_is_faster(
    name: str, seed: int, overlap: bool, rate: float, lossy: bool
) -> None:
    problem = uneven_costs_problem(name, seed % 2, 1, overlap, rate, lossy)
    check(problem, near_keep_all(problem, seed))
    check(problem, random_schedule(problem.graph, seed))
    check(problem, half_offloading_schedule(problem.graph, seed))


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(GRAPHS), seed=SEEDS, overlap=st.booleans(), lossy=st.booleans())
def test_no_schedule_whose_actions_are_the_cheapest_is_faster(
    name: str, seed: int, overlap: bool, lossy: bool
) -> None:
    problem = uneven_costs_problem(name, seed % 2, 1, overlap, 1e9, lossy)
    schedule = one_action_everywhere(problem, seed)
    check(with_cheap_actions(problem, schedule, seed), schedule)


@pytest.mark.parametrize("kind", list(PipelineKind))
def test_no_schedule_of_a_kind_is_faster(kind: PipelineKind) -> None:
    problem = uneven_costs_problem("t5_tiny", 1, world_size=4, lossy=True)
    for seed in range(5):
        check(problem, random_full_schedule(problem, seed, kind))


@pytest.mark.parametrize("pool", ["emulated", "none"])
@pytest.mark.parametrize("device_type", ["cuda", "cpu"])
@pytest.mark.parametrize("name", ["gpt2_tiny", "unet_tiny"])
def test_no_scheduler_is_faster(name: str, device_type: str, pool: str) -> None:
    hardware = cpu_hardware(pool, device_type)
    base = problem_of(zoo_graph(name), hardware=hardware)
    for share in (0.1, 0.5):
        problem = at_range(base, share)
        bound_s = lower_bound_s(problem)
        for agent in ("greedy", "rotor"):
            schedule = create(agent).propose(problem, 60.0)
            run = simulate(problem, schedule)
            assert run.max_peak_bytes <= problem.budget_bytes
            assert run.step_time_s >= bound_s * (1 - 1e-9)
            check(problem, schedule)
    check(base, floor_schedule(base))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("overlap", [True, False])
def test_keeping_everything_meets_the_bound(name: str, overlap: bool) -> None:
    problem = uneven_costs_problem(name, 3, overlap=overlap)
    assert check(problem, keep_all_schedule(problem.graph)) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("world_size", [1, 2])
def test_state_elsewhere_comes_close_to_the_bound(world_size: int, overlap: bool) -> None:
    problem = uneven_costs_problem("unet_tiny", 0, world_size, overlap)
    keep = keep_all_schedule(problem.graph)
    for zero_stage in range(4 if world_size > 1 else 1):
        for optimizer, gradients in PLACES:
            state = StatePlan(gradients=gradients, optimizer=optimizer, zero_stage=zero_stage)
            share = check(problem, dataclasses.replace(keep, state=state))
            assert share > (0.98 if optimizer is Placement.DEVICE else 0.9)


@pytest.mark.parametrize("hidden", [(64, 64, 64, 64), (256, 16, 64, 128), (16, 192, 32, 64)])
def test_bounds_of_every_recompute_plan_of_a_toy(hidden: tuple[int, ...]) -> None:
    graph = toy_graph(hidden, batch=512)
    problem = problem_of(graph, optimizer="none", hardware=cpu_hardware("none"))
    front = fastest_by_peak(problem, recompute_plans(problem))
    ideal_s = simulate(problem, keep_all_schedule(graph)).step_time_s
    assert len(front) > 1
    for peak, step_s in front:
        bound_s = lower_bound_s(with_budget(problem, peak))
        assert bound_s <= step_s * (1 + 1e-9)
        assert (bound_s > ideal_s * (1 + 1e-6)) == (step_s > ideal_s * (1 + 1e-6))


def test_a_budget_below_what_is_always_there_fits_nothing() -> None:
    problem = problem_of(zoo_graph("gpt2_tiny"), hardware=cpu_hardware("none"))
    found = lower_bounds(dataclasses.replace(problem, budget_bytes=10**6))
    assert math.isinf(found.memory_s)
    assert math.isinf(found.best_s)
    assert not found.fits
    assert math.isfinite(found.path_s)


@pytest.mark.parametrize("pool", ["emulated", "none"])
def test_more_memory_never_raises_the_bound(pool: str) -> None:
    problem = problem_of(zoo_graph("unet_tiny"), hardware=cpu_hardware(pool))
    most = simulate(problem, keep_all_schedule(problem.graph)).max_peak_bytes
    bounds = [lower_bound_s(with_budget(problem, most * k // 20)) for k in range(21)]
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(bounds))
    assert len(set(bounds)) > 4


def test_an_optimizer_in_eight_bit_is_one_of_the_choices() -> None:
    problem = problem_of(toy_graph(), optimizer="adamw", hardware=cpu_hardware("none"))
    eight_bit = StatePlan(optimizer=Placement.EIGHT_BIT)
    schedule = dataclasses.replace(keep_all_schedule(problem.graph), state=eight_bit)
    assert check(problem, schedule) == pytest.approx(1.0, rel=1e-9)


def test_the_least_of_all_choices_is_taken() -> None:
    problem = uneven_costs_problem("toy", 2, world_size=4)
    found = lower_bounds(problem)
    schedules = [random_full_schedule(problem, seed) for seed in range(20)]
    like = [lower_bounds_like(problem, schedule) for schedule in schedules]
    assert all(found.best_s <= other.best_s * (1 + 1e-9) for other in like)


def test_the_best_bound_is_the_largest() -> None:
    assert LowerBounds(work_s=1.0, path_s=3.0, transfer_s=2.0, memory_s=0.0).best_s == 3.0
