"""How the times and peaks of random schedules depend on the costs, links and bytes they get."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Collection

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Link
from remora.schedule.lowering import lower
from remora.schedule.program import Instruction, InstructionKind, Program, Stream
from remora.schedule.schedule import Placement
from remora.simulator.engine import run
from remora.simulator.simulate import simulate
from tests.schedule.full_plans import random_full_schedule
from tests.simulator.random_cases import (
    CASES,
    GRAPHS,
    Case,
    drawn,
    problem_of_case,
    with_costs,
    with_links,
)

FEW = settings(max_examples=12)
SOME = settings(max_examples=20)


@given(case=CASES)
@FEW
def test_a_slower_host_link_costs_time_and_never_memory(case: Case) -> None:
    problem, schedule = drawn(case)
    reference = simulate(problem, schedule)
    slow = with_costs(
        problem,
        lambda c: {
            "d2h_bytes_per_s": c.d2h_bytes_per_s / 50,
            "h2d_bytes_per_s": c.h2d_bytes_per_s / 70,
            "copy_latency_s": c.copy_latency_s + 1e-3,
        },
    )
    timeline = simulate(slow, schedule)
    assert timeline.peak_bytes == reference.peak_bytes
    assert timeline.host_peak_bytes == reference.host_peak_bytes
    assert timeline.step_time_s >= reference.step_time_s


@given(case=CASES, field=st.sampled_from(["link", "node_link"]))
@SOME
def test_a_slower_link_between_ranks_costs_time_and_never_memory(case: Case, field: str) -> None:
    problem, schedule = drawn(case)
    reference = simulate(problem, schedule)
    fast: Link = getattr(problem.hardware, field)
    slow = Link(fast.bandwidth_bytes_per_s / 50, fast.latency_s + 1e-4)
    timeline = simulate(with_links(problem, **{field: slow}), schedule)
    assert timeline.peak_bytes == reference.peak_bytes
    assert timeline.host_peak_bytes == reference.host_peak_bytes
    assert timeline.step_time_s >= reference.step_time_s


@given(case=CASES)
@SOME
def test_an_action_that_costs_nothing_never_slows(case: Case) -> None:
    program = lower(*drawn(case))
    reference = run(program).step_time_s
    for free in (
        {InstructionKind.RECOMPUTE},
        {InstructionKind.RESTORE},
        {InstructionKind.OFFLOAD, InstructionKind.PREFETCH},
        {InstructionKind.LOAD_WEIGHTS, InstructionKind.STORE_GRADIENTS},
        {InstructionKind.GATHER_WEIGHTS, InstructionKind.REDUCE_GRADIENTS},
        {InstructionKind.SEND},
        {InstructionKind.OPTIMIZER},
    ):
        assert run(_without_time(program, free)).step_time_s <= reference


def _without_time(program: Program, kinds: Collection[InstructionKind]) -> Program:
    instructions = tuple(
        dataclasses.replace(i, duration_s=0.0) if i.kind in kinds else i
        for i in program.instructions
    )
    return dataclasses.replace(program, instructions=instructions)


@given(case=CASES)
@SOME
def test_streams_are_in_order_and_waits_are_honoured(case: Case) -> None:
    timeline = simulate(*drawn(case))
    free_at: dict[tuple[int, Stream], float] = {}
    work = Counter[tuple[int, Stream]]()
    for event in timeline.events:
        instruction = event.instruction
        stream = (instruction.rank, instruction.stream)
        waited = [timeline.events[other].end_s for other in instruction.waits]
        assert event.start_s == max([free_at.get(stream, 0.0), *waited])
        assert event.end_s == event.start_s + instruction.duration_s
        free_at[stream] = event.end_s
        work[stream] += instruction.duration_s
    assert timeline.step_time_s == max(free_at.values())
    assert timeline.step_time_s >= max(work.values()) * (1 - 1e-12)


@given(case=CASES)
@SOME
def test_gradients_have_been_sent_when_the_task_after_next_begins(case: Case) -> None:
    timeline = simulate(*drawn(case))
    tasks = Counter[int]()
    current: dict[int, tuple[InstructionKind, int, int]] = {}
    sent: list[tuple[int, int, float]] = []
    for event in timeline.events:
        i = event.instruction
        if i.kind is InstructionKind.SEND and current[i.rank][0] is not InstructionKind.FORWARD:
            sent.append((i.rank, tasks[i.rank], event.end_s))
        if not _is_task(i) or current.get(i.rank) == _task(i):
            continue
        current[i.rank] = _task(i)
        tasks[i.rank] += 1
        for rank, task, end_s in sent:
            assert rank != i.rank or tasks[rank] < task + 2 or event.start_s >= end_s


def _is_task(instruction: Instruction) -> bool:
    return instruction.kind in (
        InstructionKind.FORWARD,
        InstructionKind.BACKWARD,
        InstructionKind.BACKWARD_INPUT,
        InstructionKind.BACKWARD_WEIGHT,
    )


def _task(instruction: Instruction) -> tuple[InstructionKind, int, int]:
    return instruction.kind, instruction.stage, instruction.micro_batch


_SECONDS = (
    "copy_latency_s",
    "optimizer_time_s",
    "host_optimizer_time_s",
    "saved_tensor_overhead_s",
    "recorded_op_overhead_s",
)
_RATES = ("d2h_bytes_per_s", "h2d_bytes_per_s", "compress_bytes_per_s", "restore_bytes_per_s")


@given(case=CASES)
@FEW
def test_time_scales_with_its_inputs_and_memory_does_not_move(case: Case) -> None:
    problem, schedule = drawn(case)
    slow = with_costs(
        problem,
        lambda c: {
            "op_time_s": tuple(2 * t for t in c.op_time_s),
            **{field: 2 * getattr(c, field) for field in _SECONDS},
            **{field: getattr(c, field) / 2 for field in _RATES},
        },
    )
    hardware = problem.hardware
    links = {"link": hardware.link, "node_link": hardware.node_link}
    halved = {f: Link(k.bandwidth_bytes_per_s / 2, 2 * k.latency_s) for f, k in links.items()}
    once, twice = simulate(problem, schedule), simulate(with_links(slow, **halved), schedule)
    assert twice.step_time_s == pytest.approx(2 * once.step_time_s, rel=1e-9)
    assert twice.peak_bytes == once.peak_bytes


@functools.lru_cache(maxsize=8)
def _doubled(graph: ModelGraph) -> ModelGraph:
    """The same graph with storages of twice the size, as if every value took two."""
    storages = tuple(dataclasses.replace(s, num_bytes=2 * s.num_bytes) for s in graph.storages)
    return dataclasses.replace(graph, storages=storages)


@given(case=CASES)
@FEW
def test_memory_scales_with_its_bytes(case: Case) -> None:
    # What master weights add does not depend on the bytes of a value.
    problem, schedule = drawn(case._replace(optimizer="adamw"))
    # Small weights keep a state of their own type.
    assume(schedule.state.optimizer is not Placement.EIGHT_BIT)
    graphs = dict.fromkeys(problem.graphs, _doubled(problem.graph))
    once, twice = (
        simulate(found, schedule)
        for found in (problem, dataclasses.replace(problem, graphs=graphs))
    )
    # Rounding up to blocks, scales and shards is all that is not linear.
    slack = 1024
    for small, large in zip(once.peak_bytes, twice.peak_bytes, strict=True):
        assert abs(2 * small - large) <= slack
    for small, large in zip(once.host_peak_bytes, twice.host_peak_bytes, strict=True):
        assert abs(2 * small - large) <= slack


@given(
    name=st.sampled_from(GRAPHS),
    world_size=st.sampled_from([1, 2, 4]),
    seeds=st.lists(st.integers(0, 100_000), min_size=5, max_size=5),
)
@settings(max_examples=8)
def test_more_memory_never_slows_the_best_of_a_pool(
    name: str, world_size: int, seeds: list[int]
) -> None:
    problem = problem_of_case(name, world_size, "adamw")
    runs = [simulate(problem, random_full_schedule(problem, seed)) for seed in seeds]
    budgets = sorted(timeline.max_peak_bytes for timeline in runs)
    best = [min(t.step_time_s for t in runs if t.max_peak_bytes <= b) for b in budgets]
    assert best == sorted(best, reverse=True)
