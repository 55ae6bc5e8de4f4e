"""Times and bytes of layers that ranks share, against their closed forms."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from remora.cost_models.collectives import with_collectives
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Link
from remora.schedule.cuts import uniform_cuts
from remora.schedule.links import collective_s
from remora.schedule.menu import keep_all_schedule, recompute_option
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.program import MemoryKind, Stream
from remora.schedule.schedule import (
    PipelineKind,
    PipelinePlan,
    Schedule,
    StatePlan,
    TensorPlan,
)
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from remora.schedule.validate import validate
from remora.simulator.compiled import CompiledSimulator
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.pipelines import gpu_hardware
from tests.problems import table
from tests.shared_layers import HIDDEN, WIDTH, shared_graph

BATCH = 8
BLOCKS = 4
LINK = Link(bandwidth_bytes_per_s=1e6, latency_s=1e-3)
NODE_LINK = Link(bandwidth_bytes_per_s=1e5, latency_s=1e-2)
SUMMED_BYTES = 4 * BATCH * WIDTH
FLOP_S = 1e-9


def problem_of(
    degree: int,
    world_size: int,
    node: int = 8,
    counts: tuple[int, ...] = (1,),
    replicas: int | None = None,
) -> Problem:
    """Only matrix products take time, each its FLOPs, and what is sent."""
    graph = shared_graph(degree, BLOCKS, BATCH)
    hardware = gpu_hardware(node, LINK, NODE_LINK)
    times = tuple(op.flops * FLOP_S if "mm" in op.name else 0.0 for op in graph.ops)
    costs = dataclasses.replace(
        table(graph), op_time_s=times, optimizer_time_s=0.0, saved_tensor_overhead_s=0.0
    )
    costs = with_collectives(costs, graph, hardware)
    return Problem(
        graphs=dict.fromkeys(counts, graph),
        costs=dict.fromkeys(counts, costs),
        hardware=hardware,
        optimizer=OPTIMIZERS["adamw"],
        budget_bytes=2**40,
        world_size=world_size,
        replicas=replicas,
    )


def run(problem: Problem, schedule: Schedule) -> Timeline:
    timeline = simulate(problem, schedule)
    figures = CompiledSimulator(problem).figures(schedule)
    assert (figures.step_time_s, figures.peak_bytes) == (timeline.step_time_s, timeline.peak_bytes)
    return timeline


def products_s(degree: int) -> float:
    """Forward and backward of all blocks and the head; the head is whole."""
    block = 3 * 2 * (2 * BATCH * WIDTH * HIDDEN) / degree
    return (BLOCKS * block + 3 * 2 * BATCH * WIDTH * 4) * FLOP_S


def ring_s(degree: int, link: Link = LINK) -> float:
    steps = degree - 1
    sent_s = SUMMED_BYTES / link.bandwidth_bytes_per_s
    return 2 * (steps * link.latency_s + steps / degree * sent_s)


@pytest.mark.parametrize("degree", [1, 2, 4, 8])
def test_a_step_is_its_share_of_the_products_and_two_sums_a_block(degree: int) -> None:
    problem = problem_of(degree, degree)
    timeline = run(problem, keep_all_schedule(problem.graph))
    expected = products_s(degree) + 2 * BLOCKS * (ring_s(degree) if degree > 1 else 0.0)
    assert timeline.step_time_s == pytest.approx(expected)


def test_ranks_of_several_nodes_talk_over_the_slower_link() -> None:
    problem = problem_of(degree=8, world_size=8, node=4)
    timeline = run(problem, keep_all_schedule(problem.graph))
    assert timeline.step_time_s == pytest.approx(products_s(8) + 2 * BLOCKS * ring_s(8, NODE_LINK))


def test_joining_slices_goes_through_the_ring_once() -> None:
    hardware = gpu_hardware(8, LINK)
    twice = collective_s(hardware, "remora.all_reduce.default", 4, 4000)
    assert collective_s(hardware, "remora.all_gather.default", 4, 4000) == pytest.approx(twice / 2)


def test_recomputing_a_unit_alone_sends_nothing() -> None:
    """It stops before its last product, whose input is the last thing saved, and the sum of it."""
    problem = problem_of(2, 2)
    keep = keep_all_schedule(problem.graph)
    options = list(keep.memory.options)
    options[1] = recompute_option(problem.graph.units[1])
    again = dataclasses.replace(
        keep, memory=dataclasses.replace(keep.memory, options=tuple(options))
    )
    more_s = run(problem, again).step_time_s - run(problem, keep).step_time_s
    assert more_s == pytest.approx(2 * BATCH * WIDTH * HIDDEN / 2 * FLOP_S)


def test_a_pipeline_of_shared_layers() -> None:
    """Two ranks of a pipeline are four devices; both halves of the blocks take the same time."""
    problem = problem_of(2, 4, counts=(1, 4))
    pipeline = PipelinePlan(PipelineKind.GPIPE, (BLOCKS // 2,), 1, 4)
    schedule = dataclasses.replace(keep_all_schedule(problem.graph), pipeline=pipeline)
    timeline = run(problem, schedule)
    head_s = 3 * 2 * BATCH * WIDTH * 4 * FLOP_S
    stage_s = (products_s(2) - head_s) / 2 + BLOCKS * ring_s(2)
    message_s = LINK.latency_s + SUMMED_BYTES / LINK.bandwidth_bytes_per_s
    # The last stage holds the head: the first waits for it at both ends of the pipeline.
    expected = 5 * stage_s + 4 * head_s + 2 * message_s
    assert timeline.step_time_s == pytest.approx(expected)
    assert len(timeline.peak_bytes) == 2


def test_messages_cross_nodes_where_groups_of_ranks_do() -> None:
    """Eight devices on nodes of four: groups of two, so every second group begins a node."""
    problem = problem_of(2, 8, node=4, counts=(1, 4))
    cuts = uniform_cuts(len(problem.graph.units), 4)
    pipeline = PipelinePlan(PipelineKind.ONE_F_ONE_B, cuts, 1, 4)
    schedule = dataclasses.replace(keep_all_schedule(problem.graph), pipeline=pipeline)
    sends = [e for e in run(problem, schedule).events if e.instruction.stream is Stream.SEND]
    latencies = {}
    for event in sends:
        if event.instruction.stage == 1:
            forward = event.instruction.duration_s
            latencies[event.instruction.rank] = max(latencies.get(1, 0.0), forward)
    assert latencies[1] >= NODE_LINK.latency_s
    assert all(
        e.instruction.duration_s < NODE_LINK.latency_s for e in sends if e.instruction.stage == 0
    )


def test_replicas_of_shared_layers_share_their_gradients() -> None:
    """ZeRO 1 over four replicas of two ranks: an eighth of the cut state on every device."""
    problem = problem_of(2, 8)
    schedule = dataclasses.replace(keep_all_schedule(problem.graph), state=StatePlan(zero_stage=1))
    timeline = run(problem, schedule)
    weights = sum(s.num_bytes for s in problem.graph.storages if s.role == "parameter")
    resident = timeline.memory[0][0].by_kind
    assert resident[MemoryKind.WEIGHTS] == weights
    assert resident[MemoryKind.OPTIMIZER] == pytest.approx(2 * weights / 4, rel=0.01)


def test_collectives_are_shown_on_a_stream_of_their_own() -> None:
    problem = problem_of(2, 2)
    timeline = run(problem, keep_all_schedule(problem.graph))
    shown = [e for e in timeline.events if e.instruction.stream is Stream.TENSOR]
    compute = [e for e in timeline.events if e.instruction.stream is Stream.COMPUTE]
    assert sum(e.end_s - e.start_s for e in shown) == pytest.approx(2 * BLOCKS * ring_s(2))
    assert sum(e.end_s - e.start_s for e in compute) == pytest.approx(products_s(2))
    ends = sorted((e.start_s, e.end_s) for e in [*shown, *compute])
    assert all(a[1] <= b[0] + 1e-12 for a, b in itertools.pairwise(ends))


def test_a_schedule_of_shared_layers_survives_json() -> None:
    schedule = keep_all_schedule(shared_graph(2))
    assert schedule.tensor == TensorPlan(2)
    assert schedule_from_json(schedule_to_json(schedule)) == schedule


def graph_and_schedule(degree: int) -> tuple[ModelGraph, Schedule]:
    graph = shared_graph(degree, BLOCKS, BATCH)
    return graph, keep_all_schedule(graph)


def test_a_schedule_of_another_degree_is_refused() -> None:
    problem = problem_of(2, 4)
    _, schedule = graph_and_schedule(2)
    other = dataclasses.replace(schedule, tensor=TensorPlan(4))
    with pytest.raises(InvalidInputError, match=r"tensor.degree is 4, .* allowed: 2"):
        validate(problem, other)


@pytest.mark.parametrize(
    ("degree", "world_size", "node", "replicas", "message"),
    [
        (4, 6, 8, None, r"tensor.degree is 4 with world_size=6 on nodes of 8; allowed: 1, 2$"),
        (4, 12, 6, None, r"tensor.degree is 4 .* on nodes of 6; allowed: 1, 2, 3, 6, 12$"),
        (2, 8, 8, 3, r"replicas is 3 with world_size=8 and tensor.degree=2; allowed: 1, 2, 4$"),
    ],
)
def test_ranks_that_cannot_be_shared_out_are_refused(
    degree: int, world_size: int, node: int, replicas: int | None, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        problem_of(degree, world_size, node, replicas=replicas)


def test_a_pipeline_that_leaves_other_replicas_than_fixed_is_refused() -> None:
    problem = problem_of(2, 8, counts=(1, 4), replicas=2)
    pipeline = PipelinePlan(PipelineKind.GPIPE, uniform_cuts(6, 4), 1, 4)
    schedule = dataclasses.replace(keep_all_schedule(problem.graph), pipeline=pipeline)
    with pytest.raises(InvalidInputError, match=r"pipeline of 4 ranks .* replicas=2; allowed: 2"):
        validate(problem, schedule)
