"""What moving and sharding weights, gradients and optimizer state costs in time, by hand.

Letters: d replicas; per unit f and b seconds of forward and backward, c of a copy, g of a pass
through a ring.
"""

from __future__ import annotations

import dataclasses

import pytest

from remora.schedule.program import InstructionKind, Stream
from remora.schedule.schedule import Placement, StatePlan
from tests.simulator.state_problems import (
    UNITS,
    WEIGHTS,
    block_graph,
    count,
    run_state,
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
