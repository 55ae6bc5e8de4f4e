"""Where weights, gradients and optimizer state live: bytes computed by hand.

Letters: d replicas; P bytes of all weights in float32.
"""

from __future__ import annotations

import dataclasses

import pytest

from remora.graph.model_graph import GRADIENT
from remora.schedule.menu import keep_all_schedule
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.schedule import Group, PipelineKind, PipelinePlan, Placement, StatePlan
from remora.simulator.simulate import simulate
from tests.problems import problem_of, table, toy_graph
from tests.simulator.state_problems import (
    BLOCK,
    HEAD,
    UNITS,
    WEIGHTS,
    block_graph,
    count,
    peak_of,
    resident,
    run_state,
    short_block_graph,
    state_problem,
)

P = 4 * WEIGHTS
"""Bytes of all weights."""
REPLICAS = pytest.mark.parametrize("d", [2, 4])
HOST_OPTIMIZER = StatePlan(optimizer=Placement.HOST)
HOST_GRADIENTS = StatePlan(optimizer=Placement.HOST, gradients=Placement.HOST)
ALL_STREAMED = StatePlan(
    Placement.HOST, optimizer=Placement.HOST, streamed_units=tuple(range(UNITS))
)


@REPLICAS
@pytest.mark.parametrize(
    ("stage", "weights", "gathered", "optimizer"),
    [
        (0, lambda d: P, 0, lambda d: 2 * P),
        (1, lambda d: P, 0, lambda d: 2 * P / d),
        # The shard, and beside it the weights that are gathered once a step.
        (2, lambda d: P + P / d, 0, lambda d: 2 * P / d),
        # The shard, and of the whole weights those of two units at a time.
        (3, lambda d: P / d, 2 * 4 * BLOCK, lambda d: 2 * P / d),
    ],
)
def test_zero_shards_one_kind_of_state_more_with_every_stage(
    d: int, stage: int, weights: object, gathered: int, optimizer: object
) -> None:
    assert callable(weights)
    assert callable(optimizer)
    timeline = run_state(state_problem(block_graph(), d), StatePlan(zero_stage=stage))
    assert timeline.memory[0][-1].by_kind[MemoryKind.WEIGHTS] == weights(d)
    assert peak_of(timeline, MemoryKind.WEIGHTS) == weights(d) + gathered
    assert resident(timeline, MemoryKind.OPTIMIZER) == optimizer(d)


@REPLICAS
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_zero_2_keeps_the_shards_and_whole_gradients_of_two_units(
    d: int, micro_batches: int
) -> None:
    problem = state_problem(block_graph(), d, micro_batches=micro_batches)
    for stage, most in ((0, P), (1, P), (2, P / d + 8 * BLOCK), (3, P / d + 8 * BLOCK)):
        timeline = run_state(problem, StatePlan(zero_stage=stage), micro_batches)
        assert peak_of(timeline, MemoryKind.GRADIENTS) == most
        assert timeline.memory[0][-1].by_kind[MemoryKind.GRADIENTS] == 0


def test_an_8_bit_optimizer_quantises_large_weights_only() -> None:
    graph = toy_graph((512,))
    timeline = run_state(state_problem(graph), StatePlan(optimizer=Placement.EIGHT_BIT))
    # Two matrices of 512 x 16, a byte per value, a scale per block of 256 and a table each.
    large = 2 * (8192 + 4 * 32 + 1024)
    # A norm, two biases, and the head of 16 x 4 with its own.
    small = 4 * (16 + 16 + 512 + 16 + 64 + 4)
    assert resident(timeline, MemoryKind.OPTIMIZER) == 2 * (large + small)


def test_master_weights_of_a_short_model_are_float32() -> None:
    short = run_state(state_problem(short_block_graph(), optimizer="adamw_master"))
    assert resident(short, MemoryKind.WEIGHTS) == 2 * WEIGHTS
    assert peak_of(short, MemoryKind.GRADIENTS) == 2 * WEIGHTS
    # Two moments and the weight itself.
    assert resident(short, MemoryKind.OPTIMIZER) == 3 * 4 * WEIGHTS
    plain = run_state(state_problem(short_block_graph()))
    assert resident(plain, MemoryKind.OPTIMIZER) == 2 * 2 * WEIGHTS
    # Weights that are float32 are their own master.
    long = run_state(state_problem(block_graph(), optimizer="adamw_master"))
    assert resident(long, MemoryKind.OPTIMIZER) == 2 * P


def test_a_host_optimizer_takes_nothing_on_the_device() -> None:
    timeline = run_state(state_problem(block_graph()), HOST_OPTIMIZER)
    assert resident(timeline, MemoryKind.OPTIMIZER) == 0
    # A copy of the weights, their gradients, two moments.
    assert timeline.host_peak_bytes == (4 * P,)
    step = timeline.memory[0][-2]
    assert MemoryKind.WORKSPACE not in step.by_kind


@REPLICAS
def test_replicas_share_what_a_host_optimizer_keeps(d: int) -> None:
    timeline = run_state(
        state_problem(block_graph(), d), dataclasses.replace(HOST_OPTIMIZER, zero_stage=1)
    )
    assert timeline.host_peak_bytes == (4 * P / d,)


def test_a_host_optimizer_with_masters_needs_no_other_copy_of_short_weights() -> None:
    problem = state_problem(short_block_graph(), optimizer="adamw_master")
    timeline = run_state(problem, HOST_OPTIMIZER)
    gradients, masters_and_moments = 2 * WEIGHTS, 3 * 4 * WEIGHTS
    assert timeline.host_peak_bytes == (gradients + masters_and_moments,)


def test_gradients_on_the_host_leave_two_units_behind() -> None:
    timeline = run_state(state_problem(block_graph()), HOST_GRADIENTS)
    assert peak_of(timeline, MemoryKind.GRADIENTS) == 2 * 4 * BLOCK
    assert timeline.host_peak_bytes == (4 * P,)
    assert count(timeline, InstructionKind.STORE_GRADIENTS) == UNITS


def test_streamed_weights_are_there_two_units_at_a_time() -> None:
    timeline = run_state(state_problem(block_graph()), ALL_STREAMED)
    assert timeline.memory[0][-1].by_kind[MemoryKind.WEIGHTS] == 0
    assert peak_of(timeline, MemoryKind.WEIGHTS) == 2 * 4 * BLOCK
    # Weights, gradients, two moments: the weights are their own copy.
    assert timeline.host_peak_bytes == (4 * P,)


def test_the_weights_that_come_next_are_those_of_what_runs_next() -> None:
    """Nested reruns go back to the first unit of a group before a backward."""
    keep = keep_all_schedule(block_graph())
    groups = (Group(0, 4, children=(Group(0, 2), Group(2, 4))),)
    memory = dataclasses.replace(keep.memory, groups=groups)
    schedule = dataclasses.replace(keep, memory=memory, state=ALL_STREAMED)
    timeline = simulate(state_problem(block_graph()), schedule)
    loaded = [
        e.instruction.unit
        for e in timeline.events
        if e.instruction.kind is InstructionKind.LOAD_WEIGHTS
    ]
    forward, head = [0, 1, 2, 3, 4], [4]
    # The outer group up to where the inner one begins, that one, and its backward.
    second_half = [0, 1, 2, 3, 2]
    first_half = [0, 1, 0]
    assert loaded == [*forward, *head, *second_half, *first_half]
    assert peak_of(timeline, MemoryKind.WEIGHTS) == 2 * 4 * BLOCK


def test_only_streamed_units_wait_on_the_host() -> None:
    some = dataclasses.replace(ALL_STREAMED, streamed_units=(1, 4))
    timeline = run_state(state_problem(block_graph(), copy_s=1.0), some)
    stay = 3 * 4 * BLOCK
    assert timeline.memory[0][-1].by_kind[MemoryKind.WEIGHTS] == stay
    assert peak_of(timeline, MemoryKind.WEIGHTS) == stay + 4 * BLOCK
    assert count(timeline, InstructionKind.LOAD_WEIGHTS) == 2 + 2 + 1


def test_every_rank_of_a_pipeline_shards_its_own_state() -> None:
    problem = state_problem(block_graph(), 4, micro_batches=2)
    schedule = dataclasses.replace(
        keep_all_schedule(problem.graph),
        pipeline=PipelinePlan(PipelineKind.ONE_F_ONE_B, (3,), 1, 2),
        state=StatePlan(zero_stage=1),
    )
    timeline = simulate(problem, schedule)
    mine = [3 * BLOCK, BLOCK + HEAD]
    for rank in (0, 1):
        assert resident(timeline, MemoryKind.WEIGHTS, rank) == 4 * mine[rank]
        assert resident(timeline, MemoryKind.OPTIMIZER, rank) == 2 * 4 * mine[rank] / 2


def test_gradients_take_whole_blocks_of_the_allocator() -> None:
    graph = toy_graph()
    costs = dataclasses.replace(table(graph), allocation_granularity_bytes=512)
    problem = problem_of(graph, costs=costs)
    last = simulate(problem, keep_all_schedule(graph)).memory[0][-2].by_kind
    sizes = [s.num_bytes for s in graph.storages if s.role == GRADIENT]
    assert any(size % 512 for size in sizes)
    assert last[MemoryKind.GRADIENTS] == sum(-(-size // 512) * 512 for size in sizes)
