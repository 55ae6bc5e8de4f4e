"""Passes of inference: closed forms of time and memory, and two engines with the same numbers."""

from __future__ import annotations

import random

import pytest

from remora.hardware.hardware import Link
from remora.schedule.inference import InferenceSpec
from remora.schedule.program import InstructionKind, MemoryKind
from remora.simulator.compiled import CompiledSimulator, Figures
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.passes import (
    BLOCK_BYTES,
    LINKS,
    NUM_BLOCKS,
    pass_graph,
    pass_problem,
    pass_schedule,
    random_pass,
    timed_costs,
)
from tests.pipelines import gpu_hardware
from tests.problems import cpu_hardware

BLOCKS = tuple(range(NUM_BLOCKS))
EQUAL = (1.0,) * NUM_BLOCKS + (0.0,)


def kinds_of(timeline: Timeline) -> set[InstructionKind]:
    return {event.instruction.kind for event in timeline.events}


def test_a_pass_is_its_forwards_and_keeps_weights_alone() -> None:
    problem = pass_problem(costs=timed_costs(pass_graph(), EQUAL))
    timeline = simulate(problem, pass_schedule(problem))
    assert timeline.step_time_s == NUM_BLOCKS
    assert kinds_of(timeline) == {InstructionKind.FORWARD}
    last = timeline.memory[0][-1]
    held = {kind for kind, size in last.by_kind.items() if size}
    assert held == {MemoryKind.WEIGHTS, MemoryKind.BATCH}
    # Two residual streams of [8, 16] and the hidden [8, 64], once before and once after ReLU.
    assert timeline.max_peak_bytes - last.level_bytes == 4 * 8 * (16 + 64 + 64)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_latency_of_a_pass_is_its_stages_and_their_messages(ranks: int) -> None:
    graph = pass_graph()
    unit_s = (1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 0.5)
    problem = pass_problem(
        costs=timed_costs(graph, unit_s),
        world_size=ranks,
        hardware=gpu_hardware(link=Link(float("inf"), 0.25)),
    )
    cuts = tuple(range(2, 2 * ranks, 2))
    timeline = simulate(problem, pass_schedule(problem, cuts=cuts))
    assert timeline.step_time_s == pytest.approx(sum(unit_s) + 0.25 * (ranks - 1))


@pytest.mark.parametrize(("ranks", "micro_batches"), [(2, 1), (2, 4), (3, 2), (3, 6)])
def test_a_stream_through_equal_stages_takes_m_and_p_less_one_stages(
    ranks: int, micro_batches: int
) -> None:
    graph = pass_graph()
    stage_s = NUM_BLOCKS // ranks
    problem = pass_problem(
        costs=timed_costs(graph, EQUAL), world_size=ranks, micro_batches=(1, micro_batches)
    )
    cuts = tuple(range(stage_s, NUM_BLOCKS, stage_s))
    schedule = pass_schedule(problem, cuts=cuts, micro_batches=micro_batches)
    timeline = simulate(problem, schedule)
    assert timeline.step_time_s == pytest.approx((micro_batches + ranks - 1) * stage_s)


@pytest.mark.parametrize(("compute_s", "copy_s"), [(2.0, 1.0), (1.0, 1.0), (1.0, 3.0)])
def test_streaming_takes_the_longer_of_compute_and_copy(compute_s: float, copy_s: float) -> None:
    graph = pass_graph()
    unit_s = (compute_s,) * NUM_BLOCKS + (0.0,)
    problem = pass_problem(costs=timed_costs(graph, unit_s, copy_s))
    timeline = simulate(problem, pass_schedule(problem, BLOCKS))
    longer_s = max(compute_s, copy_s)
    assert timeline.step_time_s == pytest.approx(copy_s + (NUM_BLOCKS - 1) * longer_s + compute_s)


def test_streamed_weights_are_there_for_the_unit_that_runs_and_the_next() -> None:
    problem = pass_problem()
    whole = simulate(problem, pass_schedule(problem))
    streamed = simulate(problem, pass_schedule(problem, BLOCKS))
    assert whole.max_peak_bytes - streamed.max_peak_bytes == (NUM_BLOCKS - 2) * BLOCK_BYTES
    assert streamed.host_peak_bytes == (NUM_BLOCKS * BLOCK_BYTES,)


def test_asking_for_weights_earlier_hides_a_copy_behind_several_units() -> None:
    graph = pass_graph()
    problem = pass_problem(costs=timed_costs(graph, EQUAL, copy_s=3.0))
    near = simulate(problem, pass_schedule(problem, (4,), distance=1))
    far = simulate(problem, pass_schedule(problem, (4,), distance=3))
    assert near.step_time_s == NUM_BLOCKS + 2
    assert far.step_time_s == NUM_BLOCKS


def test_a_cache_counts_whole_and_leaves_the_device_with_its_unit() -> None:
    spec = InferenceSpec(2, 4, 4, 12, (0, 0, 1600, 0, 0, 0, 0))
    problem = pass_problem(spec=spec)
    kept = simulate(problem, pass_schedule(problem))
    assert kept.memory[0][0].by_kind[MemoryKind.CACHE] == 2 * 1600
    away = simulate(problem, pass_schedule(problem, host_caches=(2,), window=1))
    assert kept.max_peak_bytes - away.max_peak_bytes == 0
    assert away.memory[0][-1].by_kind[MemoryKind.CACHE] == 0
    assert away.host_peak_bytes == (2 * 1600,)


@pytest.mark.parametrize(("pass_tokens", "loaded", "stored"), [(4, 0, 4 * 100), (1, 15 * 100, 100)])
def test_a_pass_brings_in_what_is_there_and_writes_back_what_it_adds(
    pass_tokens: int, loaded: int, stored: int
) -> None:
    spec = InferenceSpec(1, pass_tokens, 4, 12, (0, 1600, 0, 0, 0, 0, 0))
    problem = pass_problem(spec=spec)
    events = simulate(problem, pass_schedule(problem, host_caches=(1,))).events
    seconds = {e.instruction.kind: e.instruction.duration_s for e in events}
    copy_s = 1e-5
    expected_s = copy_s + loaded / 1e9 if loaded else 0.0
    assert seconds[InstructionKind.LOAD_WEIGHTS] == pytest.approx(expected_s)
    assert seconds[InstructionKind.STORE_CACHE] == pytest.approx(copy_s + stored / 1e9)


def test_micro_batches_share_the_sequences_of_the_cache() -> None:
    spec = InferenceSpec(6, 4, 4, 4, (800,) + (0,) * NUM_BLOCKS)
    assert spec.cache_of(0, 1).held == 4800
    assert spec.cache_of(0, 4).held == 1600
    assert spec.cache_of(1, 4).held == 0


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["toy", "gpt2_tiny", "unet_tiny", "t5_tiny"])
def test_both_engines_give_the_same_numbers(name: str, world_size: int) -> None:
    graph = pass_graph(name)
    rng = random.Random(world_size)
    sizes = tuple(rng.choice([0, 100, 3000]) for _ in graph.units)
    problem = pass_problem(
        graph,
        spec=InferenceSpec(8, rng.choice([1, 4]), 4, 4, sizes),
        world_size=world_size,
        micro_batches=(1, 2, 4),
        hardware=cpu_hardware() if world_size == 2 else gpu_hardware(4, *LINKS),
    )
    schedules = [random_pass(problem, seed) for seed in range(30)]
    found = CompiledSimulator(problem).batch(schedules)
    for schedule, figures in zip(schedules, found, strict=True):
        timeline = simulate(problem, schedule)
        expected = Figures(timeline.step_time_s, timeline.peak_bytes, timeline.host_peak_bytes)
        assert figures == expected, schedule
