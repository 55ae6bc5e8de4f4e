from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from remora.agents.exact.partition.loads import Team, stage_loads
from remora.agents.exact.partition.program import (
    Partition,
    least_stage_bytes,
    partition_front,
    stage_seconds,
)
from remora.agents.exact.partition.ranges import range_tables
from remora.agents.exact.partition.shape import ShapeProgram
from remora.agents.exact.partition.stage_menu import stage_menu
from remora.agents.heuristics.shapes import Shape
from remora.schedule.layout import Layout
from remora.schedule.menu import keep_all_schedule, unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan
from remora.simulator.simulate import simulate
from tests.agents.exact.partition_cases import Instance, all_plans, instances
from tests.pipelines import equal_cuts, equal_problem, equal_schedule
from tests.problems import toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem


def solved(case: Instance) -> list[Partition]:
    limits = [float(case.limit)] * case.loads.num_stages
    stage = stage_seconds(case.tables, case.menu, case.loads, limits, num_slots=case.limit)
    return partition_front(stage, case.message)


def program_of(problem: Problem, shape: Shape, even: bool = True) -> ShapeProgram:
    count = shape.micro_batches
    menu = stage_menu(problem, count, [unit_menu(problem, u) for u in problem.graph.units])
    return ShapeProgram(problem, shape, range_tables(problem, count), menu, 100, even)


@given(instances())
def test_the_front_is_that_of_all_cuts_and_options(case: Instance) -> None:
    plans = {p[:2] for p in all_plans(case) if p.fullest_bytes <= case.limit}
    front = {
        (path, slowest)
        for path, slowest in plans
        if not any(p <= path and s <= slowest and (p, s) != (path, slowest) for p, s in plans)
    }
    found = solved(case)
    assert {(one.path, one.slowest) for one in found} == front
    assert len(found) == len(front)


@given(instances())
def test_fewer_slots_give_plans_that_still_fit(case: Instance) -> None:
    limits = [float(case.limit)] * case.loads.num_stages
    coarse = stage_seconds(*case[:3], limits, num_slots=max(1, case.limit // 10))
    exact = stage_seconds(*case[:3], limits, num_slots=case.limit)
    assert (coarse >= exact).all()


@given(instances())
@settings(max_examples=30)
def test_something_fits_from_the_least_of_the_fullest_stage_on(case: Instance) -> None:
    least = int(partition_front(least_stage_bytes(*case[:3]))[-1].slowest)
    if least > 0:
        assert solved(case._replace(limit=least))
    if least > 1:
        assert not solved(case._replace(limit=least - 1))


@pytest.mark.parametrize("name", ["unet_tiny", "t5_tiny"])
@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_the_tables_count_what_the_layout_counts(name: str, device_type: str) -> None:
    problem = full_problem(zoo_graph(name), 2, "adamw")
    hardware = dataclasses.replace(problem.hardware, device_type=device_type)
    problem = dataclasses.replace(problem, hardware=hardware)
    units, count = len(problem.graph.units), max(problem.graphs)
    tables = range_tables(problem, count)
    for cut in range(1, units):
        pipeline = PipelinePlan(PipelineKind.GPIPE, (cut,), 1, count)
        layout = Layout(problem, keep_all_schedule(problem.graph, pipeline))
        for rank, (a, b) in enumerate(pipeline.spans(units)):
            state = layout.state_of(rank)
            whole = state.weights_bytes + state.gradient_bytes + state.optimizer_bytes
            assert tables.state_bytes[a, b] == whole
            assert tables.step_bytes[a, b] == layout.step_costs(rank).temporary_bytes
            received = layout.input_bytes(rank) + layout.receive_bytes(rank)
            assert count * tables.pass_bytes[a, b] == received
            seconds = sum(u.forward_s + u.backward_s for u in layout.chain.units[a:b])
            assert tables.seconds[a, b] == pytest.approx(seconds)


def test_micro_batches_in_flight_are_counted_along_the_order() -> None:
    assert stage_loads(PipelineKind.ONE_F_ONE_B, 4, 8, 1).in_flight == (4, 3, 2, 1)
    assert stage_loads(PipelineKind.GPIPE, 3, 5, 1).in_flight == (5, 5, 5)
    assert stage_loads(PipelineKind.NONE, 1, 4, 1).in_flight == (1,)


@pytest.mark.parametrize(("kind", "most"), [("zero_bubble", 8), ("dualpipe_v", 9)])
def test_the_stages_of_a_rank_share_what_it_holds_at_most(kind: str, most: int) -> None:
    loads = stage_loads(PipelineKind(kind), 4, 16, 2)
    together = [sum(loads.in_flight[stage] for stage in team.stages) for team in loads.teams]
    assert max(together) == pytest.approx(most)
    assert [team.stages for team in loads.teams] == [(0, 7), (1, 6), (2, 5), (3, 4)]
    assert loads.passes == (16,) * 8


def test_both_copies_of_chimera_make_one_team() -> None:
    loads = stage_loads(PipelineKind.CHIMERA, 4, 8, 1)
    assert loads.teams == (Team((0, 3), (0, 3)), Team((1, 2), (1, 2)))
    assert loads.passes == (4,) * 4


@pytest.mark.parametrize(
    ("kind", "chunks", "count"),
    [
        ("gpipe", 1, 6),
        ("1f1b", 1, 8),
        ("interleaved_1f1b", 2, 8),
        ("zero_bubble", 2, 8),
        ("dualpipe_v", 2, 8),
        ("chimera", 1, 4),
    ],
)
def test_estimates_are_the_makespans_of_equal_stages(kind: str, chunks: int, count: int) -> None:
    forward_s = 2.0 if kind == "chimera" else 1.0
    problem = equal_problem(4, count, chunks, forward_s=forward_s)
    shape = Shape(PipelineKind(kind), 4, chunks, count)
    program = program_of(problem, shape)
    assert program.ideal.cuts == equal_cuts(4 * chunks)
    schedule = equal_schedule(problem.graph, shape.kind, 4, count, chunks)
    makespan_s = simulate(problem, schedule).step_time_s
    assert program.estimate_s(program.ideal) == pytest.approx(makespan_s)
    assert program.least_s == pytest.approx(makespan_s)


@pytest.mark.parametrize("kind", ["zero_bubble", "interleaved_1f1b"])
def test_stages_of_one_rank_make_room_for_each_other(kind: str) -> None:
    problem = full_problem(toy_graph((64,) * 9 + (12000,)), 2, "sgd")
    shape = Shape(PipelineKind(kind), 2, 2, max(problem.graphs))
    even, uneven = program_of(problem, shape), program_of(problem, shape, even=False)
    assert uneven.estimate_s(uneven.ideal) < even.estimate_s(even.ideal)
    assert uneven.least_s <= uneven.estimate_s(uneven.ideal)
    assert uneven.parts(np.array([1.0, 2.0, 3.0, 6.0])).sum() == pytest.approx(0.0)
    assert not even.parts(np.array([1.0, 2.0, 3.0, 6.0])).any()


def test_menus_keep_only_what_trades_seconds_for_bytes() -> None:
    problem = full_problem(zoo_graph("t5_tiny"), 1, "adamw")
    menus = [unit_menu(problem, unit) for unit in problem.graph.units]
    menu = stage_menu(problem, 1, menus)
    for unit, options in enumerate(menu.options):
        count = len(options)
        assert set(options) <= set(menus[unit])
        assert (np.diff(menu.extra_s[unit, :count]) > 0).all()
        assert (np.diff(menu.held_bytes[unit, :count]) < 0).all()
        assert np.isinf(menu.extra_s[unit, count:]).all()
    assert (menu.extra_s[:, 0] == 0).all()
