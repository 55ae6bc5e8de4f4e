"""Bounds whose value is known by hand, and how close they come to simple schedules."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.program import InstructionKind
from remora.schedule.schedule import (
    Action,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    Placement,
    Schedule,
    StatePlan,
    UnitOption,
)
from remora.simulator.bounds import lower_bound_s, lower_bounds_like
from remora.simulator.bounds.dependencies import paths_of
from remora.simulator.bounds.linear_program import LinearProgram
from remora.simulator.simulate import simulate
from tests.agents.budgets import at_range
from tests.pipelines import equal_problem, equal_schedule
from tests.problems import cpu_hardware, problem_of, table, toy_graph, zoo_graph
from tests.simulator.bound_cases import (
    check,
    with_budget,
)


def link_problem(overlap: bool, link_bytes_per_s: float, latency_s: float = 0.0) -> Problem:
    """Recomputing a tensor takes so long that only the link is worth its price."""
    graph = toy_graph((256, 256, 256, 256), batch=64)
    costs = dataclasses.replace(
        table(graph, link_bytes_per_s, time_scale=1e3),
        copy_latency_s=latency_s,
        saved_tensor_overhead_s=1e3,
    )
    hardware = cpu_hardware(device_type="cuda" if overlap else "cpu")
    problem = problem_of(graph, optimizer="none", hardware=hardware, costs=costs)
    return dataclasses.replace(problem, graphs={1: graph, 2: graph}, costs={1: costs, 2: costs})


def fullest_backward(problem: Problem, schedule: Schedule) -> tuple[int, int]:
    """(peak, unit in whose backward it is)."""
    run = simulate(problem, schedule)
    sample = max(run.memory[0], key=lambda sample: sample.level_bytes)
    instruction = run.events[sample.instruction].instruction
    assert instruction.kind is InstructionKind.BACKWARD
    return sample.level_bytes, instruction.unit


@pytest.mark.parametrize("missing_bytes", [1000, 50000, 100000])
@pytest.mark.parametrize("rate", [1e5, 1e9])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_copies_in_line_cost_both_ways(missing_bytes: int, rate: float, micro_batches: int) -> None:
    problem = link_problem(overlap=False, link_bytes_per_s=rate)
    pipeline = PipelinePlan(micro_batches=micro_batches)
    schedule = dataclasses.replace(keep_all_schedule(problem.graph), pipeline=pipeline)
    peak, unit = fullest_backward(problem, schedule)
    tight = with_budget(problem, peak - missing_bytes)
    lost_s = lower_bounds_like(tight, schedule).best_s - lower_bounds_like(problem, schedule).best_s
    copied = missing_bytes
    if micro_batches == 2:
        # The first one has not made the gradients of this unit and those before it yet.
        weights = problem.chain.statics.weights_of(range(unit + 1))
        copied += max(0, missing_bytes - sum(entry.gradient_bytes for entry in weights))
    assert lost_s == pytest.approx(2 * copied / rate, rel=1e-6)


@pytest.mark.parametrize("missing_bytes", [1000, 20000, 60000])
@pytest.mark.parametrize(("rate", "latency_s"), [(1e5, 0.0), (1e6, 0.0), (1e5, 1.0)])
def test_copies_beside_the_computation_cost_what_it_cannot_hide(
    missing_bytes: int, rate: float, latency_s: float
) -> None:
    problem = link_problem(True, rate, latency_s)
    units = problem.chain.units
    peak, fullest = fullest_backward(problem, keep_all_schedule(problem.graph))
    # What the first unit saves can leave the longest, from its forward to the end of the forward,
    # and come back the longest, from the fullest backward to its own.
    assert missing_bytes < units[0].own_saved_bytes
    largest = max(saved.num_bytes for saved in units[0].saved)
    copy_s = missing_bytes / rate
    late_s = missing_bytes / largest * latency_s
    there_s = copy_s + late_s - sum(unit.forward_s for unit in units[1:])
    back_s = max(
        copy_s - sum(unit.backward_s for unit in units[1:fullest]),
        copy_s + late_s - sum(unit.backward_s for unit in units[1:-1]),
    )
    lost_s = lower_bound_s(with_budget(problem, peak - missing_bytes)) - lower_bound_s(problem)
    # A little can be computed again while the backward waits for the link.
    assert lost_s == pytest.approx(max(0.0, there_s) + max(0.0, back_s), rel=1e-3, abs=1e-12)


def test_a_copy_on_a_slow_link_comes_close_to_the_bound() -> None:
    problem = link_problem(overlap=True, link_bytes_per_s=1e5)
    copies = dataclasses.replace(problem.cost, saved_tensor_overhead_s=0.0)
    keep = keep_all_schedule(problem.graph)
    largest = max(problem.chain.units[0].saved, key=lambda saved: saved.num_bytes)
    moved = UnitOption(
        tuple(
            (name, Action.OFFLOAD if name in largest.names else action)
            for name, action in keep.memory.options[0].actions
        )
    )
    memory = MemoryPlan((moved, *keep.memory.options[1:]), offload_window=9)
    schedule = dataclasses.replace(keep, memory=memory)
    run = simulate(dataclasses.replace(problem, costs=dict.fromkeys((1, 2), copies)), schedule)
    bound_s = lower_bound_s(with_budget(problem, run.max_peak_bytes))
    assert 0.95 * run.step_time_s < bound_s < run.step_time_s


def test_permission_to_compress_lowers_the_bound() -> None:
    graph = toy_graph((64, 64, 64, 64), batch=256)
    costs = dataclasses.replace(
        table(graph, time_scale=1e2), compress_bytes_per_s=1e12, restore_bytes_per_s=1e12
    )
    problem = problem_of(graph, optimizer="none", hardware=cpu_hardware("none"), costs=costs)
    tight = at_range(problem, 0.3)
    bound_s, lossy_s = (
        lower_bound_s(tight),
        lower_bound_s(dataclasses.replace(tight, allow_lossy=True)),
    )
    ideal_s = lower_bound_s(problem)
    assert bound_s > ideal_s * 1.01
    assert ideal_s < lossy_s < bound_s


@pytest.mark.parametrize(
    ("kind", "chunks", "micro_batches", "by_hand_s"),
    [
        # The best cut lies inside of stages, where units take no time.
        (PipelineKind.GPIPE, 1, 8, 32.0),
        (PipelineKind.ONE_F_ONE_B, 1, 8, 32.0),
        (PipelineKind.ONE_F_ONE_B, 1, 4, 19.0),
        # 96 s of work; at the start ranks wait for 0, 1, 1 and 2 forwards of 0.5 s, at the end
        # for 0, 0, 1 and 1 backwards of 1 s, unless they have weight gradients to compute.
        (PipelineKind.INTERLEAVED, 2, 8, (96 + 2 + 2) / 4),
        (PipelineKind.ZERO_BUBBLE, 2, 8, (96 + 2) / 4),
        (PipelineKind.DUALPIPE_V, 2, 8, (96 + 2) / 4),
        # A rank in the middle: two micro-batches of each copy, and one on its way there and back.
        (PipelineKind.CHIMERA, 1, 4, 14.0),
    ],
)
def test_pipelines_of_equal_stages_come_close(
    kind: PipelineKind, chunks: int, micro_batches: int, by_hand_s: float
) -> None:
    problem = equal_problem(4, micro_batches, chunks)
    schedule = equal_schedule(problem.graph, kind, 4, micro_batches, chunks)
    step_s = simulate(problem, schedule).step_time_s
    found = lower_bounds_like(problem, schedule)
    assert found.work_s == pytest.approx(micro_batches * 3.0)
    assert found.path_s == pytest.approx(by_hand_s)
    assert 0.85 * step_s < found.best_s <= step_s * (1 + 1e-9)


@pytest.mark.parametrize(("optimizer_s", "by_hand_s"), [(1.0, 25.0), (4.0, 25.5)])
def test_ranks_step_while_others_still_wait(optimizer_s: float, by_hand_s: float) -> None:
    problem = equal_problem(4, 8, 2)
    costs = dataclasses.replace(problem.cost, optimizer_time_s=optimizer_s)
    problem = dataclasses.replace(problem, costs=dict.fromkeys(problem.costs, costs))
    schedule = equal_schedule(problem.graph, PipelineKind.INTERLEAVED, 4, 8, 2)
    assert check(problem, schedule) > 0.85
    assert lower_bounds_like(problem, schedule).path_s == pytest.approx(by_hand_s)


def test_units_that_do_not_need_each_other_may_overlap() -> None:
    chain = problem_of(zoo_graph("t5_tiny")).chain
    before_s = list(itertools.accumulate((u.backward_s for u in chain.units), initial=0.0))
    # The decoder's gradients reach the encoder's end without its own first units.
    tails_s = paths_of(chain, split=False).tail_s
    assert all(tail <= before * (1 + 1e-9) for tail, before in zip(tails_s, before_s, strict=False))
    assert any(tail < before * 0.99 for tail, before in zip(tails_s, before_s, strict=False))


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_pipeline_that_is_short_of_memory_copies_in_line(ranks: int) -> None:
    graph = toy_graph((64,) * 8, batch=256)
    costs = dataclasses.replace(
        table(graph, copy_bytes_per_s=1e6), copy_latency_s=0.0, saved_tensor_overhead_s=1e3
    )
    problem = dataclasses.replace(
        problem_of(graph, optimizer="sgd", costs=costs),
        graphs={1: graph, 4: graph},
        costs={1: costs, 4: costs},
        world_size=ranks,
    )
    pipeline = PipelinePlan(PipelineKind.ONE_F_ONE_B, tuple(range(2, 2 * ranks, 2)), 1, 4)
    schedule = dataclasses.replace(keep_all_schedule(graph), pipeline=pipeline)
    saved = {s.storage: s.num_bytes for unit in problem.chain.units for s in unit.saved}
    pinned = {s.storage for s in problem.chain.units[-1].saved}
    free = sum(size for storage, size in saved.items() if storage not in pinned)
    always = graph.parameter_bytes + graph.buffer_bytes + 4 * graph.input_bytes
    budget = (always + sum(saved.values()) - free // 2) // ranks
    plenty, short = (
        lower_bounds_like(with_budget(problem, size), schedule) for size in (2**40, budget)
    )
    missing = always + sum(saved.values()) - ranks * budget
    assert plenty.memory_s == plenty.path_s == short.path_s
    lost_s = 4 * 2 * missing / 1e6 / ranks
    # The average rank stands for all, so what a longer path hides is not lost.
    hidden_s = (
        plenty.path_s - 4 * sum(u.forward_s + u.backward_s for u in problem.chain.units) / ranks
    )
    assert lost_s - hidden_s <= short.memory_s - plenty.memory_s <= lost_s * (1 + 1e-6)
    hopeless = with_budget(problem, (always + sum(saved.values()) - free) // ranks - 10)
    assert math.isinf(lower_bounds_like(hopeless, schedule).best_s)


@pytest.mark.parametrize("overlap", [True, False])
def test_streamed_weights_come_twice_for_every_micro_batch(overlap: bool) -> None:
    graph = toy_graph((512,) * 12, batch=2)
    costs = dataclasses.replace(table(graph, copy_bytes_per_s=1e7), copy_latency_s=0.0)
    hardware = cpu_hardware(device_type="cuda" if overlap else "cpu")
    problem = problem_of(graph, optimizer="sgd", hardware=hardware, costs=costs)
    state = StatePlan(
        weights=Placement.HOST,
        gradients=Placement.HOST,
        optimizer=Placement.HOST,
        streamed_units=tuple(
            u.index for u in graph.units if problem.chain.statics.weights_of((u.index,))
        ),
    )
    schedule = dataclasses.replace(keep_all_schedule(graph), state=state)
    assert check(problem, schedule) > 0.7


def test_operators_that_several_tensors_share_are_paid_once() -> None:
    problem = problem_of(
        toy_graph((64,) * 8, batch=256), optimizer="none", hardware=cpu_hardware("none")
    )
    graph = problem.graph
    norms = {i for i, op in enumerate(graph.ops) if "native_layer_norm." in op.name}
    costs = dataclasses.replace(
        problem.cost,
        op_time_s=tuple(
            1e-4 if op in norms or op >= graph.num_forward_ops else 1.0
            for op in range(len(graph.ops))
        ),
    )
    made = {s for s, record in enumerate(graph.storages) if record.created in norms}
    options = tuple(
        UnitOption(
            tuple(
                (saved.name, Action.RECOMPUTE if graph.storage_of(saved) in made else Action.KEEP)
                for saved in unit.saved
            )
        )
        for unit in graph.units
    )
    schedule = dataclasses.replace(keep_all_schedule(graph), memory=MemoryPlan(options))
    priced = dataclasses.replace(problem, costs={1: costs})
    run = simulate(priced, schedule)
    bound_s = lower_bound_s(with_budget(priced, run.max_peak_bytes))
    ideal_s = lower_bound_s(priced)
    assert 0.6 < (bound_s - ideal_s) / (run.step_time_s - ideal_s) <= 1


def test_the_program_is_bounded_whatever_the_solver_returns() -> None:
    program = LinearProgram()
    cheap = program.variable(upper=0.5, cost=1.0)
    dear = program.variable(upper=2.0, cost=3.0)
    program.at_least([(cheap, 10.0), (dear, 10.0)], 12.0)
    assert program.lower_bound() == pytest.approx(0.5 + 3 * 0.7)
    assert not program.unsolved
    program.at_least([(cheap, 1.0)], 1.0)
    assert program.lower_bound() <= 0.5 + 3 * 0.7
    assert program.unsolved
