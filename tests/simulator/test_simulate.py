"""The simulator: cases computed by hand and properties that hold for every plan."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from remora.graph.trace import trace
from remora.schedule.menu import keep_all_schedule, offload_option, recompute_option
from remora.schedule.program import InstructionKind, Stream
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from remora.simulator.bounds import lower_bound_s
from remora.simulator.floor import floor_peak_bytes, floor_schedule
from remora.simulator.simulate import estimate, simulate
from remora.simulator.timeline import Timeline
from tests.problems import BlockChain, cpu_hardware, problem_of, table, toy_graph, zoo_graph
from tests.schedule.plans import random_schedule

SEEDS = st.integers(0, 100_000)
GRAPHS = ("gpt2_tiny", "unet_tiny", "t5_tiny")


def recompute_all(graph_name: str) -> Schedule:
    graph = zoo_graph(graph_name)
    options = tuple(
        keep if unit.fixed_reason or not unit.saved else recompute_option(unit)
        for unit, keep in zip(graph.units, keep_all_schedule(graph).memory.options, strict=True)
    )
    return Schedule(graph.content_hash, MemoryPlan(options))


def test_two_linear_layers_by_hand() -> None:
    """Batch 2, widths 8, 16, 4: memory of every kind counted on paper."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    graph = trace(model, (torch.randn(2, 8),), loss=torch.sum)
    problem = problem_of(graph, optimizer="none")
    timeline = simulate(problem, keep_all_schedule(graph))
    weights = 4 * (8 * 16 + 16 + 16 * 4 + 4)
    batch = 4 * 2 * 8
    gradients = weights
    # The last gradient, of the first weight [16, 8], is computed while ReLU's input gradient
    # [2, 16] lives and the other gradients are there: everything saved has gone.
    relu_gradient = 4 * 2 * 16
    # The caller of backward holds the loss and its seed gradient, one float each.
    end_of_backward = weights + batch + gradients + relu_gradient + 2 * 4
    assert timeline.max_peak_bytes == end_of_backward
    assert timeline.memory[0][-1].level_bytes == weights + batch


def test_recompute_runs_every_unit_but_stops_early() -> None:
    graph = zoo_graph("gpt2_tiny")
    chain = problem_of(graph).chain
    timeline = simulate(problem_of(graph), recompute_all("gpt2_tiny"))
    rerun = [e for e in timeline.events if e.instruction.kind is InstructionKind.RECOMPUTE]
    times = {e.instruction.unit: e.instruction.duration_s for e in rerun}
    assert times == {u.index: u.rerun_s + u.hooks_s for u in chain.units if u.saved}
    assert any(u.rerun_s < u.forward_s for u in chain.units if u.saved)


@pytest.mark.parametrize(
    ("groups", "runs"),
    [
        ((Group(1, 5, children=tuple(Group(i, i + 1) for i in range(1, 5))),), [3, 3, 3, 2]),
        ((Group(1, 5, children=(Group(1, 3), Group(3, 5))),), [3, 3, 2, 2]),
        ((Group(1, 5),), [2, 2, 2, 2]),
    ],
)
def test_forwards_per_unit_in_nested_groups(groups: tuple[Group, ...], runs: list[int]) -> None:
    graph = toy_graph((64,) * 6)
    schedule = dataclasses.replace(
        keep_all_schedule(graph), memory=MemoryPlan(keep_all_schedule(graph).memory.options, groups)
    )
    timeline = simulate(problem_of(graph), schedule)
    forwards = (InstructionKind.FORWARD, InstructionKind.RECOMPUTE)
    units = [e.instruction.unit for e in timeline.events if e.instruction.kind in forwards]
    assert [units.count(index) for index in range(1, 5)] == runs


def _offload_first(copy_bytes_per_s: float, window: int = 2) -> Timeline:
    graph = toy_graph((4096,) * 6, batch=64)
    keep = keep_all_schedule(graph)
    options = list(keep.memory.options)
    options[0] = offload_option(graph, graph.units[0])
    schedule = dataclasses.replace(
        keep, memory=MemoryPlan(tuple(options), offload_window=window, prefetch_distance=2)
    )
    hardware = cpu_hardware(device_type="cuda")
    costs = table(graph, copy_bytes_per_s)
    return simulate(problem_of(graph, hardware=hardware, costs=costs), schedule)


def test_copies_overlap_with_computation_on_their_own_streams() -> None:
    fast = _offload_first(1e12)
    copies = [e for e in fast.events if e.instruction.stream in (Stream.D2H, Stream.H2D)]
    assert [e.instruction.kind for e in copies] == [
        InstructionKind.OFFLOAD,
        InstructionKind.PREFETCH,
    ]
    graph = toy_graph((4096,) * 6, batch=64)
    assert fast.step_time_s == pytest.approx(lower_bound_s(problem_of(graph)), rel=1e-9)


def test_a_slower_link_costs_time_and_never_memory() -> None:
    fast, slow = _offload_first(1e12), _offload_first(1e7)
    assert slow.step_time_s > fast.step_time_s
    assert slow.peak_bytes == fast.peak_bytes


def test_the_window_decides_when_an_offloaded_tensor_is_released() -> None:
    waits = {}
    for window in (1, 3):
        events = _offload_first(1e12, window).events
        waits[window] = [
            e.instruction.unit
            for e in events
            if e.instruction.kind is InstructionKind.FORWARD and e.instruction.early_releases
        ]
    assert waits == {1: [1], 3: [3]}


@given(seed=SEEDS, name=st.sampled_from(GRAPHS))
def test_memory_returns_to_its_start_value(seed: int, name: str) -> None:
    graph = zoo_graph(name)
    timeline = simulate(problem_of(graph), random_schedule(graph, seed))
    resident = graph.parameter_bytes + graph.buffer_bytes + graph.input_bytes
    assert timeline.memory[0][-1].level_bytes == resident + 2 * graph.gradient_bytes
    assert timeline.events[-1].instruction.kind is InstructionKind.OPTIMIZER


@given(seed=SEEDS, name=st.sampled_from(GRAPHS))
def test_no_plan_is_faster_than_the_bound_or_smaller_than_what_is_resident(
    seed: int, name: str
) -> None:
    graph = zoo_graph(name)
    problem = problem_of(graph)
    timeline = simulate(problem, random_schedule(graph, seed))
    assert timeline.step_time_s >= lower_bound_s(problem) * (1 - 1e-12)
    resident = graph.parameter_bytes + graph.buffer_bytes + graph.input_bytes
    assert timeline.max_peak_bytes >= resident + 3 * graph.gradient_bytes


@given(seed=SEEDS)
def test_time_scales_with_its_inputs_and_peak_does_not_move(seed: int) -> None:
    graph = toy_graph()
    schedule = random_schedule(graph, seed)
    once = simulate(problem_of(graph), schedule)
    slower = table(graph, 0.5e9, time_scale=2.0)
    twice = simulate(problem_of(graph, costs=slower), schedule)
    assert twice.step_time_s == pytest.approx(2 * once.step_time_s, rel=1e-9)
    assert twice.peak_bytes == once.peak_bytes


@given(seed=SEEDS)
def test_a_schedule_read_back_simulates_the_same(seed: int) -> None:
    graph = toy_graph()
    schedule = random_schedule(graph, seed)
    again = schedule_from_json(schedule_to_json(schedule))
    assert simulate(problem_of(graph), again) == simulate(problem_of(graph), schedule)


@pytest.mark.parametrize("name", GRAPHS)
def test_floor_is_below_recompute_all_and_keep_all(name: str) -> None:
    problem = problem_of(zoo_graph(name), optimizer="none")
    keep = simulate(problem, keep_all_schedule(problem.graph)).max_peak_bytes
    every = simulate(problem, recompute_all(name)).max_peak_bytes
    assert floor_peak_bytes(problem) <= every < keep
    assert floor_schedule(problem) == floor_schedule(problem)


def test_an_offloaded_checkpoint_leaves_the_device() -> None:
    graph = trace(BlockChain((1024,) * 6, width=256), (torch.randn(64, 256),))
    keep = keep_all_schedule(graph)
    problem = problem_of(graph, optimizer="none")
    peaks = {}
    for action in (Action.KEEP, Action.OFFLOAD):
        groups = tuple(Group(i, i + 1, action) for i in range(1, 6))
        memory = MemoryPlan(keep.memory.options, groups, offload_window=1)
        timeline = simulate(problem, dataclasses.replace(keep, memory=memory))
        peaks[action] = timeline.memory[0]
    middle = {
        action: min(s.level_bytes for s in samples if 6 <= s.instruction <= 10)
        for action, samples in peaks.items()
    }
    assert middle[Action.OFFLOAD] < middle[Action.KEEP]


def test_micro_batches_accumulate_gradients_once() -> None:
    graph = toy_graph()
    problem = problem_of(graph, optimizer="none")
    both = dataclasses.replace(
        problem, graphs={1: graph, 2: graph}, costs={1: table(graph), 2: table(graph)}
    )
    keep = keep_all_schedule(graph)
    two = dataclasses.replace(keep, pipeline=dataclasses.replace(keep.pipeline, micro_batches=2))
    timeline = simulate(both, two)
    assert timeline.step_time_s == pytest.approx(2 * simulate(both, keep).step_time_s)
    assert timeline.memory[0][-1].level_bytes == (
        graph.parameter_bytes + graph.buffer_bytes + 2 * graph.input_bytes
    )


def test_an_estimate_breaks_the_peak_down_completely() -> None:
    graph = zoo_graph("gpt2_tiny")
    found = estimate(problem_of(graph), keep_all_schedule(graph), "test")
    assert sum(found.breakdown_bytes.values()) == found.peak_memory_bytes
    assert found.peak_bound_bytes == found.peak_memory_bytes
    assert found.cost_model == "test"
