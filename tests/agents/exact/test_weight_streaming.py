from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import random
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.agents.evaluation import Evaluator, score_of
from remora.agents.exact.weights.choices import flip_units, simple_choices
from remora.agents.exact.weights.program import Limits, choose_streamed
from remora.agents.exact.weights.reading import stream_tables, streamable_units
from remora.agents.exact.weights.scheduler import WeightStreaming
from remora.agents.exact.weights.solver import solve_streaming
from remora.agents.exact.weights.states import plain_states
from remora.agents.exact.weights.tables import StreamTables
from remora.agents.heuristics.greedy import Greedy
from remora.agents.heuristics.space import Space
from remora.errors import InfeasibleError, InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Placement, Schedule, StatePlan
from remora.simulator.bounds import lower_bound_s, lower_bounds_like
from remora.simulator.simulate import simulate
from tests.pipelines import gpu_hardware
from tests.problems import Block, BlockChain, cpu_hardware, problem_of, table, toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem, random_full_schedule
from tests.simulator.state_problems import short_block_graph

LONG_S = 120.0
PLACES = (Placement.DEVICE, Placement.HOST)
OVERLAP = (True, False)
RATES = (1e8, 1e9, 1e10)
"""From copies that take longer than the units beside them to such that always hide."""


@functools.cache
def small_problem(overlap: bool, bytes_per_s: float = 1e9, optimizer: str = "adamw") -> Problem:
    """Four units with weights and the loss; every state is allowed."""
    graph = toy_graph((256, 16, 192), batch=64)
    costs = dataclasses.replace(
        table(graph, copy_bytes_per_s=bytes_per_s), host_optimizer_time_s=2e-4, copy_latency_s=1e-6
    )
    hardware = gpu_hardware() if overlap else cpu_hardware()
    return problem_of(graph, optimizer=optimizer, hardware=hardware, costs=costs)


def plan_named(problem: Problem, name: str) -> Schedule:
    space = Space(problem)
    if name == "keep":
        return space.keep_all
    return space.floor if name == "floor" else space.build(space.with_action(Action.OFFLOAD))


class Point(NamedTuple):
    step_time_s: float
    peak_bytes: int
    units: tuple[int, ...]


@functools.cache
def every_choice(
    overlap: bool, bytes_per_s: float, plan: str, place: Placement
) -> tuple[StreamTables, list[Point]]:
    """All sets of units, simulated by the reference engine."""
    problem = small_problem(overlap, bytes_per_s)
    tables = stream_tables(problem, plan_named(problem, plan), place)
    points = []
    for count in range(len(tables.units) + 1):
        for units in itertools.combinations(tables.units, count):
            timeline = simulate(problem, tables.with_streamed(units))
            points.append(Point(timeline.step_time_s, timeline.max_peak_bytes, units))
    return tables, points


def fastest(points: list[Point], budget: int) -> float:
    return min((p.step_time_s for p in points if p.peak_bytes <= budget), default=math.inf)


def budgets_of(points: list[Point]) -> list[int]:
    """One below all, the least, one between and the most."""
    peaks = sorted({point.peak_bytes for point in points})
    return [peaks[0] - 1, peaks[0], peaks[len(peaks) // 3], peaks[-1]]


def with_budget(problem: Problem, budget: int) -> Problem:
    return dataclasses.replace(problem, budget_bytes=budget)


# Tables


@settings(max_examples=40)
@given(
    st.sampled_from(["toy", "tied", "unet_tiny"]),
    st.sampled_from(["adamw", "adamw_master"]),
    st.booleans(),
    st.sampled_from(PLACES),
    st.integers(0, 10_000),
)
def test_tables_say_what_the_simulator_says(
    name: str, optimizer: str, overlap: bool, place: Placement, seed: int
) -> None:
    problem = random_problem(name, optimizer, overlap)
    schedule = random_full_schedule(problem, seed)
    tables = stream_tables(problem, schedule, place)
    rng = random.Random(seed)
    share = rng.choice([0.2, 0.5, 0.9])
    units = [unit for unit in tables.units if rng.random() < share]
    timeline = simulate(problem, tables.with_streamed(units))
    assert tables.peak_bytes(units) == timeline.max_peak_bytes
    assert tables.host_peak_bytes(units) == timeline.host_peak_bytes[0]
    assert tables.step_time_s(units) == pytest.approx(timeline.step_time_s, rel=1e-12)


@functools.cache
def random_problem(name: str, optimizer: str, overlap: bool) -> Problem:
    graphs = {"toy": toy_graph, "tied": tied_graph}
    graph = graphs[name]() if name in graphs else zoo_graph(name)
    hardware = gpu_hardware() if overlap else cpu_hardware()
    return full_problem(graph, 1, optimizer, hardware=hardware)


@functools.cache
def tied_graph() -> ModelGraph:
    """Blocks 0 and 2 share one weight, blocks 1, 2 and 3 another."""
    model = BlockChain((64,) * 4)
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    blocks[2].up.weight = blocks[0].up.weight
    for block in blocks[2:]:
        block.down.weight = blocks[1].down.weight
    return trace(model, (torch.randn(64, 16),))


# The integer program


@pytest.mark.parametrize("plan", ["keep", "floor", "offload"])
@pytest.mark.parametrize("bytes_per_s", RATES)
@pytest.mark.parametrize("overlap", OVERLAP)
def test_the_program_finds_the_best_of_all_choices(
    overlap: bool, bytes_per_s: float, plan: str
) -> None:
    for place in PLACES:
        tables, points = every_choice(overlap, bytes_per_s, plan, place)
        for budget in budgets_of(points):
            choice = choose_streamed(tables, Limits(budget, math.inf), LONG_S)
            best_s = fastest(points, budget)
            assert choice.bound_s <= best_s
            if math.isinf(best_s):
                assert choice.units is None
                assert math.isinf(choice.bound_s)
                continue
            assert choice.units is not None
            assert tables.peak_bytes(choice.units) <= budget
            assert tables.step_time_s(choice.units) == pytest.approx(best_s, rel=1e-6)
            assert choice.bound_s == pytest.approx(best_s, rel=1e-6)


@pytest.mark.parametrize("bytes_per_s", RATES)
@pytest.mark.parametrize("overlap", OVERLAP)
def test_shared_weights_go_only_together(overlap: bool, bytes_per_s: float) -> None:
    problem = random_problem("tied", "adamw", overlap)
    costs = dataclasses.replace(
        problem.cost, d2h_bytes_per_s=bytes_per_s, h2d_bytes_per_s=bytes_per_s
    )
    problem = dataclasses.replace(problem, costs=dict.fromkeys(problem.costs, costs))
    for seed in range(3):
        tables = stream_tables(problem, random_full_schedule(problem, seed), Placement.DEVICE)
        sizes = range(len(tables.units) + 1)
        sets = [found for size in sizes for found in itertools.combinations(tables.units, size)]
        points = [Point(tables.step_time_s(s), tables.peak_bytes(s), s) for s in sets]
        for budget in budgets_of(points)[1:]:
            choice = choose_streamed(tables, Limits(budget, math.inf), LONG_S)
            assert choice.units is not None
            assert tables.peak_bytes(choice.units) <= budget
            assert choice.bound_s == pytest.approx(fastest(points, budget), rel=1e-6)


def test_host_memory_is_a_limit_too() -> None:
    # Weights in a short type are on the host only if streamed: the optimizer's are longer.
    problem = problem_of(short_block_graph(), optimizer="adamw_master", hardware=gpu_hardware())
    tables = stream_tables(problem, Space(problem).keep_all, Placement.DEVICE)
    least, most = tables.peak_bytes(tables.units), tables.host_peak_bytes(tables.units)
    assert most > tables.host_peak_bytes(())
    assert choose_streamed(tables, Limits(least, most), LONG_S).units is not None
    spare = choose_streamed(tables, Limits(math.inf, tables.host_peak_bytes(())), LONG_S)
    assert spare.units == frozenset()
    lean = choose_streamed(tables, Limits(least, tables.host_peak_bytes(())), LONG_S)
    assert math.isinf(lean.bound_s)
    assert list(simple_choices(tables, Limits(math.inf, 0.0))) == []


@pytest.mark.parametrize("overlap", OVERLAP)
def test_an_excluded_answer_gives_the_next_best(overlap: bool) -> None:
    tables, points = every_choice(overlap, 1e8, "keep", Placement.DEVICE)
    budget = budgets_of(points)[2]
    ranked = sorted(p.step_time_s for p in points if p.peak_bytes <= budget)
    excluded: list[frozenset[int]] = []
    for best_s in ranked[:3]:
        choice = choose_streamed(tables, Limits(budget, math.inf), LONG_S, excluded)
        assert choice.units is not None
        assert choice.units not in excluded
        assert choice.bound_s == pytest.approx(best_s, rel=1e-6)
        excluded.append(choice.units)


def test_a_solver_without_time_still_bounds() -> None:
    tables, points = every_choice(True, 1e8, "keep", Placement.DEVICE)
    budget = budgets_of(points)[2]
    choice = choose_streamed(tables, Limits(budget, math.inf), 0.0)
    assert 0 < choice.bound_s <= fastest(points, budget)


# Rules, and the solver


@pytest.mark.parametrize("bytes_per_s", RATES)
@pytest.mark.parametrize("overlap", OVERLAP)
def test_rules_fit_and_flips_do_not_harm(overlap: bool, bytes_per_s: float) -> None:
    tables, points = every_choice(overlap, bytes_per_s, "keep", Placement.DEVICE)
    budget = budgets_of(points)[2]
    evaluator = Evaluator(with_budget(small_problem(overlap, bytes_per_s), budget), LONG_S)
    found = list(simple_choices(tables, Limits(budget, math.inf)))
    assert found
    for units in found:
        start = evaluator.score(tables.with_streamed(units))
        end = evaluator.score(tables.with_streamed(flip_units(evaluator, tables, units)))
        assert start.feasible
        assert end.feasible
        assert end.step_time_s <= start.step_time_s
        assert end.step_time_s >= fastest(points, budget)


def test_rules_give_nothing_where_nothing_fits() -> None:
    tables, points = every_choice(True, 1e9, "keep", Placement.DEVICE)
    assert not list(simple_choices(tables, Limits(budgets_of(points)[0], math.inf)))


@pytest.mark.parametrize("plan", ["keep", "floor"])
@pytest.mark.parametrize("bytes_per_s", RATES)
@pytest.mark.parametrize("overlap", OVERLAP)
def test_the_solver_closes_the_gap(overlap: bool, bytes_per_s: float, plan: str) -> None:
    problem = small_problem(overlap, bytes_per_s)
    points = [p for place in PLACES for p in every_choice(overlap, bytes_per_s, plan, place)[1]]
    for budget in budgets_of(points)[1:]:
        tight = with_budget(problem, budget)
        solved = solve_streaming(Evaluator(tight, LONG_S), plan_named(tight, plan), LONG_S)
        best_s = fastest(points, budget)
        assert solved.proven
        assert solved.bound_s <= solved.step_time_s
        assert solved.step_time_s == pytest.approx(best_s, rel=1e-6)
        assert solved.schedule is not None
        assert score_of(tight, solved.schedule).feasible
        assert lower_bound_s(tight) <= best_s
        assert lower_bounds_like(tight, solved.schedule).best_s <= best_s


@pytest.mark.parametrize("plan", ["keep", "floor"])
def test_the_program_exchanges_units_where_single_changes_do_not_help(plan: str) -> None:
    found = {place: every_choice(False, 1e8, plan, place)[1] for place in PLACES}
    points = [point for place in PLACES for point in found[place]]
    for budget in sorted({point.peak_bytes for point in points}):
        tight = with_budget(small_problem(False, 1e8), budget)
        solved = solve_streaming(Evaluator(tight, LONG_S), plan_named(tight, plan), LONG_S)
        assert solved.step_time_s == pytest.approx(fastest(points, budget), rel=1e-6)


def test_the_solver_says_that_nothing_fits() -> None:
    points = [p for place in PLACES for p in every_choice(True, 1e9, "keep", place)[1]]
    problem = with_budget(small_problem(True), min(p.peak_bytes for p in points) - 1)
    solved = solve_streaming(Evaluator(problem, LONG_S), Space(problem).keep_all, LONG_S)
    assert solved.schedule is None
    assert math.isinf(solved.bound_s)
    assert solved.proven


# The scheduler


def floor_of(problem: Problem) -> int:
    return score_of(problem, Space(problem).floor).peak_bytes


@pytest.mark.parametrize("bytes_per_s", RATES)
@pytest.mark.parametrize("overlap", OVERLAP)
def test_plans_where_the_state_does_not_fit(overlap: bool, bytes_per_s: float) -> None:
    problem = small_problem(overlap, bytes_per_s)
    tables = stream_tables(problem, Space(problem).floor, Placement.HOST)
    tight = with_budget(problem, (tables.peak_bytes(tables.units) + floor_of(problem)) // 2)
    schedule = WeightStreaming().propose(tight, LONG_S)
    assert schedule.state.optimizer is Placement.HOST
    score = score_of(tight, schedule)
    assert score.feasible
    # No other choice of streamed units is better beside the same activations.
    solved = solve_streaming(Evaluator(tight, LONG_S), schedule, LONG_S)
    assert score.step_time_s == pytest.approx(solved.step_time_s, rel=1e-6)
    assert score.step_time_s >= lower_bound_s(tight)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("bytes_per_s", RATES)
@pytest.mark.parametrize("overlap", OVERLAP)
def test_never_worse_than_the_state_on_the_device(
    overlap: bool, bytes_per_s: float, share: float
) -> None:
    problem = small_problem(overlap, bytes_per_s)
    low, high = floor_of(problem), score_of(problem, Space(problem).keep_all).peak_bytes
    tight = with_budget(problem, int(low + share * (high - low)))
    found = WeightStreaming().propose(tight, LONG_S)
    step_time_s = score_of(tight, found).step_time_s
    assert step_time_s <= score_of(tight, Greedy().propose(tight, LONG_S)).step_time_s * (1 + 1e-9)
    moved = score_of(tight, dataclasses.replace(found, state=StatePlan()))
    assert not moved.feasible or step_time_s <= moved.step_time_s


def test_nothing_moves_where_everything_fits() -> None:
    problem = small_problem(True)
    assert WeightStreaming().propose(problem, LONG_S) == Space(problem).keep_all


def test_eight_bits_need_a_problem_that_allows_lossy_plans() -> None:
    problem = small_problem(True)
    lossy = dataclasses.replace(problem, allow_lossy=True)
    eight = StatePlan(optimizer=Placement.EIGHT_BIT)
    assert eight not in plain_states(problem)
    assert eight in plain_states(lossy)
    peak = score_of(lossy, dataclasses.replace(Space(lossy).keep_all, state=eight)).peak_bytes
    assert WeightStreaming().propose(with_budget(lossy, peak), LONG_S).state == eight


@pytest.mark.parametrize(("optimizer", "pool"), [("none", "emulated"), ("adamw", "none")])
def test_without_a_host_step_the_state_stays(optimizer: str, pool: str) -> None:
    graph = toy_graph((256, 16, 192), batch=64)
    problem = problem_of(graph, optimizer=optimizer, hardware=cpu_hardware(pool))
    tight = with_budget(problem, floor_of(problem))
    schedule = WeightStreaming().propose(tight, LONG_S)
    assert plain_states(tight) == (StatePlan(),)
    assert schedule.state == StatePlan()
    assert score_of(tight, schedule).feasible


def test_the_state_stays_where_the_problem_wants_it_on_the_device() -> None:
    problem = dataclasses.replace(small_problem(True), state_on_device=True)
    tight = with_budget(problem, floor_of(problem))
    assert WeightStreaming().propose(tight, LONG_S).state == StatePlan()
    solved = solve_streaming(Evaluator(tight, LONG_S), Space(tight).keep_all, LONG_S)
    assert solved.schedule is None


def test_units_without_weights_are_never_streamed() -> None:
    problem = small_problem(True)
    assert streamable_units(problem) == tuple(range(len(problem.graph.units) - 1))


def test_the_least_budget_is_below_every_plan_with_the_state_on_the_device() -> None:
    problem = with_budget(small_problem(True), 1)
    with pytest.raises(InfeasibleError) as caught:
        WeightStreaming().propose(problem, LONG_S)
    least = caught.value.smallest_budget_bytes
    assert least is not None
    assert least < floor_of(problem)


def test_several_ranks_and_bad_settings_are_refused() -> None:
    problem = dataclasses.replace(small_problem(True), world_size=4)
    with pytest.raises(InvalidInputError, match="world_size is 4 and scheduler 'weight_streaming'"):
        WeightStreaming().propose(problem, LONG_S)
    with pytest.raises(InvalidInputError, match="solve_s is 0"):
        WeightStreaming(solve_s=0)
