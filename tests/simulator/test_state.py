"""Where weights, gradients and optimizer state live: bytes and times computed by hand.

Letters: d replicas; P values of all weights, float32 unless said; per unit f and b seconds of
forward and backward, c of a copy, g of a pass through a ring.
"""

from __future__ import annotations

import dataclasses
import math

import pytest

from remora.graph.model_graph import PARAMETER
from remora.schedule.menu import keep_all_schedule
from remora.schedule.program import InstructionKind, MemoryKind, Stream
from remora.schedule.schedule import PipelineKind, PipelinePlan, Placement, StatePlan
from remora.simulator.simulate import simulate
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


# Bytes


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


def test_an_8_bit_optimizer_keeps_a_byte_per_value_and_a_scale_per_block() -> None:
    graph = block_graph()
    timeline = run_state(state_problem(graph), StatePlan(optimizer=Placement.EIGHT_BIT))
    weights = [s.num_bytes // 4 for s in graph.storages if s.role == PARAMETER]
    assert sum(weights) == WEIGHTS
    scales = sum(math.ceil(n / 256) for n in weights)
    assert resident(timeline, MemoryKind.OPTIMIZER) == 2 * (WEIGHTS + 4 * scales)


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


# Times


def test_a_host_optimizer_adds_its_copies_to_the_step() -> None:
    problem = state_problem(block_graph(), copy_s=0.25, optimizer_s=3.0, host_optimizer_s=5.0)
    device, host = run_state(problem), run_state(problem, HOST_OPTIMIZER)
    assert device.step_time_s == 3.0
    assert host.step_time_s == 0.25 + 5.0 + 0.25
    # With the gradients there already, only the weights come back.
    assert run_state(problem, HOST_GRADIENTS).step_time_s == UNITS * 0.25 + 5.0 + 0.25


@REPLICAS
def test_replicas_share_the_work_of_the_step_from_zero_1_on(d: int) -> None:
    problem = state_problem(block_graph(), d, optimizer_s=3.0)
    found = [run_state(problem, StatePlan(zero_stage=z)).step_time_s for z in range(4)]
    assert found == pytest.approx([3.0, 3.0 / d, 3.0 / d, 3.0 / d])


def test_zero_1_gathers_the_weights_when_they_are_back_from_the_host() -> None:
    problem = state_problem(block_graph(), 2, copy_s=0.25, ring_step_s=1.0, host_optimizer_s=6.0)
    timeline = run_state(problem, dataclasses.replace(HOST_OPTIMIZER, zero_stage=1))
    # The sums of gradients run one after the other: two passes each.
    assert timeline.step_time_s == UNITS * 2 * 1.0 + 0.25 + 6.0 / 2 + 0.25 + 1.0


@pytest.mark.parametrize(("f", "b", "c"), [(1, 2, 4), (1, 4, 2), (2, 4, 1), (1, 1, 1), (1, 2, 0)])
def test_streamed_weights_take_the_longer_of_copy_and_work(f: int, b: int, c: int) -> None:
    """The first copy of each direction is exposed; after it, work and copies go side by side."""
    problem = state_problem(block_graph(), forward_s=f, backward_s=b, copy_s=c)
    forward = max(c + UNITS * f, UNITS * c + f)
    backward = max(c + UNITS * b, UNITS * c + b)
    timeline = run_state(problem, ALL_STREAMED)
    assert timeline.step_time_s == forward + backward + c  # gradients go to the host at the end


def test_a_slower_link_keeps_the_peak_of_streamed_weights() -> None:
    found = [
        run_state(state_problem(block_graph(), forward_s=1, copy_s=c), ALL_STREAMED)
        for c in (0.0, 0.5, 50.0)
    ]
    assert len({timeline.peak_bytes for timeline in found}) == 1
    assert found[0].step_time_s < found[1].step_time_s < found[2].step_time_s


@REPLICAS
@pytest.mark.parametrize("ring_step_s", [0.0, 0.1, 5.0])
def test_sums_of_gradients_run_beside_the_backward(d: int, ring_step_s: float) -> None:
    f, b, step = 1.0, 2.0, 0.5
    problem = state_problem(block_graph(), d, f, b, ring_step_s=ring_step_s, optimizer_s=step)
    reduce = 2 * (d - 1) * ring_step_s
    timeline = run_state(problem)
    # Each starts when its unit's backward has ended, so at least the last one is exposed.
    exposed = max(reduce, b + UNITS * reduce - UNITS * b)
    assert timeline.step_time_s == pytest.approx(UNITS * (f + b) + exposed + step)
    collectives = [e for e in timeline.events if e.instruction.stream is Stream.COLLECTIVE]
    assert len(collectives) == UNITS


@REPLICAS
@pytest.mark.parametrize("ring_step_s", [0.1, 5.0])
def test_zero_2_gathers_once_and_scatters_beside_the_backward(d: int, ring_step_s: float) -> None:
    f, b, step = 1.0, 2.0, 0.5
    problem = state_problem(block_graph(), d, f, b, ring_step_s=ring_step_s, optimizer_s=step)
    timeline = run_state(problem, StatePlan(zero_stage=2))
    g = (d - 1) * ring_step_s
    forward = max(g + UNITS * f, UNITS * g + f)
    backward = max(UNITS * b + g, b + UNITS * g)
    assert timeline.step_time_s == pytest.approx(forward + backward + step / d)
    assert count(timeline, InstructionKind.GATHER_WEIGHTS) == UNITS


@REPLICAS
def test_zero_3_gathers_for_every_use(d: int) -> None:
    f, b, step, ring_step_s = 1.0, 2.0, 0.5, 0.1
    problem = state_problem(block_graph(), d, f, b, ring_step_s=ring_step_s, optimizer_s=step)
    timeline = run_state(problem, StatePlan(zero_stage=3))
    g = (d - 1) * ring_step_s
    # Exposed: the first gather of each direction and the last scatter.
    expected = g + UNITS * f + g + UNITS * b + g + step / d
    assert timeline.step_time_s == pytest.approx(expected)
    assert count(timeline, InstructionKind.GATHER_WEIGHTS) == 2 * UNITS


def test_gradients_are_summed_after_the_last_micro_batch_only() -> None:
    problem = state_problem(block_graph(), 2, micro_batches=3)
    for stage, times in ((0, 1), (1, 1), (2, 3), (3, 3)):
        timeline = run_state(problem, StatePlan(zero_stage=stage), micro_batches=3)
        assert count(timeline, InstructionKind.REDUCE_GRADIENTS) == times * UNITS


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_gradients_of_all_replicas_are_summed_before_they_go_to_the_host(stage: int) -> None:
    problem = state_problem(block_graph(), 2, backward_s=1.0, copy_s=10.0, ring_step_s=100.0)
    timeline = run_state(problem, dataclasses.replace(HOST_GRADIENTS, zero_stage=stage))
    kinds = (InstructionKind.REDUCE_GRADIENTS, InstructionKind.STORE_GRADIENTS)
    sums, stores = (
        {e.instruction.unit: e for e in timeline.events if e.instruction.kind is kind}
        for kind in kinds
    )
    assert sums.keys() == stores.keys() == set(range(UNITS))
    assert all(stores[unit].start_s >= sums[unit].end_s for unit in sums)
