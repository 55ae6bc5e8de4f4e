"""What crosses between ranks, when and how large: messages, receive buffers, tied gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import HardwareState, Link
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.program import Instruction, InstructionKind, MemoryKind
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule, StatePlan
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.pipelines import equal_problem, equal_schedule, gpu_hardware
from tests.problems import table, zoo_graph

GPIPE, ONE_F_ONE_B = PipelineKind.GPIPE, PipelineKind.ONE_F_ONE_B
ZERO_BUBBLE, CHIMERA = PipelineKind.ZERO_BUBBLE, PipelineKind.CHIMERA

BYTE_PER_SECOND = Link(1.0, 0.0)
"""A message over it takes as many seconds as it has bytes."""


def slow_link(kind: PipelineKind, ranks: int, micro_batches: int, link: Link) -> Timeline:
    """Equal stages with F = 1 and B = 2 seconds, over a link that takes time."""
    problem = equal_problem(ranks, micro_batches)
    problem = dataclasses.replace(problem, hardware=gpu_hardware(link=link))
    return simulate(problem, equal_schedule(problem.graph, kind, ranks, micro_batches))


def starts(timeline: Timeline, rank: int, kind: InstructionKind) -> list[float]:
    """When each micro-batch starts on the first unit of the rank's task of this kind."""
    found: dict[int, float] = {}
    for event in timeline.events:
        if event.instruction.rank == rank and event.instruction.kind is kind:
            found.setdefault(event.instruction.micro_batch, event.start_s)
    return [found[micro_batch] for micro_batch in sorted(found)]


def test_two_ranks_and_two_micro_batches_by_hand() -> None:
    half = slow_link(GPIPE, 2, 2, Link(float("inf"), 0.5))
    assert starts(half, 0, InstructionKind.FORWARD) == [0.0, 1.0]
    # The first message leaves at 1 and takes half a second, the second one follows at 2.
    assert starts(half, 1, InstructionKind.FORWARD) == [1.5, 2.5]
    assert starts(half, 1, InstructionKind.BACKWARD) == [3.5, 5.5]
    assert starts(half, 0, InstructionKind.BACKWARD) == [6.0, 8.0]
    assert half.step_time_s == 10.0


def test_messages_of_a_rank_queue_up_on_its_link() -> None:
    slow = slow_link(GPIPE, 2, 2, Link(float("inf"), 3.0))
    # Ready at 1 and 2, but the second one has to wait until the first has gone.
    assert starts(slow, 1, InstructionKind.FORWARD) == [4.0, 7.0]
    assert starts(slow, 1, InstructionKind.BACKWARD) == [8.0, 10.0]
    assert starts(slow, 0, InstructionKind.BACKWARD) == [13.0, 16.0]
    assert slow.step_time_s == 18.0


def test_memory_of_a_message_is_kept_until_it_has_gone() -> None:
    slow = slow_link(ONE_F_ONE_B, 2, 3, Link(float("inf"), 5.0))
    # The first backward of rank 1 ends at 9, its gradient has left at 14. Its memory is given up
    # two tasks later, where the second backward, whose forward ended at 12, begins.
    assert starts(slow, 1, InstructionKind.FORWARD) == [6.0, 11.0, 22.0]
    assert starts(slow, 1, InstructionKind.BACKWARD) == [7.0, 14.0, 23.0]
    assert slow.step_time_s == 32.0


def test_a_message_takes_its_bytes_over_the_live_rate() -> None:
    problem = equal_problem(2, 2)
    # Batch 4, width 16, float32.
    hardware = dataclasses.replace(
        gpu_hardware(link=Link(512.0, 1.0)), state=HardwareState(2**36, link_share=0.25)
    )
    problem = dataclasses.replace(problem, hardware=hardware)
    timeline = simulate(problem, equal_schedule(problem.graph, GPIPE, 2, 2))
    assert {m.duration_s for m in sends(timeline)} == {1.0 + 4 * 16 * 4 / 128.0}


def test_ranks_on_two_nodes_talk_over_the_link_between_them() -> None:
    problem = equal_problem(4, 4)
    hardware = gpu_hardware(2, Link(float("inf"), 1.0), Link(float("inf"), 7.0))
    problem = dataclasses.replace(problem, hardware=hardware)
    timeline = simulate(problem, equal_schedule(problem.graph, GPIPE, 4, 4))
    by_rank = [{m.duration_s for m in sends(timeline) if m.rank == rank} for rank in range(4)]
    # Ranks 0 and 1, 2 and 3 share a node; 1 sends to 0 and 2, 2 sends to 1 and 3.
    assert by_rank == [{1.0}, {1.0, 7.0}, {1.0, 7.0}, {1.0}]


def sends(timeline: Timeline) -> list[Instruction]:
    return [e.instruction for e in timeline.events if e.instruction.kind is InstructionKind.SEND]


def cut(
    graph: ModelGraph,
    kind: PipelineKind,
    cuts: tuple[int, ...],
    micro_batches: int,
    replicas: int = 1,
    chunks: int = 1,
    zero_stage: int = 0,
) -> Timeline:
    """Run a model cut into stages over links of one byte per second."""
    pipeline = PipelinePlan(kind, cuts, chunks, micro_batches)
    counts = {1, micro_batches}
    problem = Problem(
        graphs=dict.fromkeys(counts, graph),
        costs=dict.fromkeys(counts, table(graph)),
        hardware=gpu_hardware(link=BYTE_PER_SECOND),
        optimizer=OPTIMIZERS["adamw"],
        budget_bytes=2**40,
        world_size=pipeline.num_ranks * replicas,
    )
    memory, state = keep_all_schedule(graph).memory, StatePlan(zero_stage=zero_stage)
    return simulate(problem, Schedule(graph.content_hash, memory, pipeline, state))


def sent_bytes(timeline: Timeline) -> list[list[int]]:
    """Bytes of every message of each rank's first micro-batch, sorted."""
    ranks = range(len(timeline.memory))
    return [
        sorted(
            round(m.duration_s) for m in sends(timeline) if m.rank == rank and m.micro_batch == 0
        )
        for rank in ranks
    ]


def received_bytes(timeline: Timeline) -> list[int]:
    return [samples[0].by_kind.get(MemoryKind.RECEIVE, 0) for samples in timeline.memory]


def reductions(timeline: Timeline) -> Mapping[int, list[float]]:
    """Seconds of every sum of gradients, by rank."""
    found: dict[int, list[float]] = {}
    for event in timeline.events:
        if event.instruction.kind is InstructionKind.REDUCE_GRADIENTS:
            found.setdefault(event.instruction.rank, []).append(event.instruction.duration_s)
    return found


HIDDEN = 131072
"""Bytes of the activations between blocks of GPT-2 and between encoder blocks of T5 (tiny)."""
EMBEDDING = 262144
"""Bytes of their embeddings, which the head shares."""


def test_a_weight_tied_across_stages_is_exchanged_once_and_never_sent() -> None:
    timeline = cut(zoo_graph("gpt2_tiny"), GPIPE, (4, 8), micro_batches=3)
    assert sent_bytes(timeline) == [[HIDDEN], [HIDDEN, HIDDEN], [HIDDEN]]
    # Ring over two ranks: twice half of the bytes, on both.
    assert reductions(timeline) == {0: [EMBEDDING], 2: [EMBEDDING]}


def test_three_stages_that_share_a_weight_exchange_it_together() -> None:
    timeline = cut(zoo_graph("t5_tiny"), GPIPE, (4, 10), micro_batches=2)
    ring = pytest.approx(2 * EMBEDDING * 2 / 3)
    assert reductions(timeline) == {0: [ring], 1: [ring], 2: [ring]}
    begins = {
        e.start_s for e in timeline.events if e.instruction.kind is InstructionKind.REDUCE_GRADIENTS
    }
    assert len(begins) == 1


def test_both_ends_hold_the_gradient_of_a_tied_weight() -> None:
    graph = zoo_graph("gpt2_tiny")
    timeline = cut(graph, GPIPE, (5,), micro_batches=2)
    gradients = [
        max(sample.by_kind.get(MemoryKind.GRADIENTS, 0) for sample in samples)
        for samples in timeline.memory
    ]
    assert sum(gradients) == graph.gradient_bytes + EMBEDDING


def test_stages_of_one_rank_that_share_a_weight_exchange_nothing_and_reduce_it_once() -> None:
    graph = zoo_graph("gpt2_tiny")
    # The V puts the first and the last stage on rank 0.
    assert reductions(cut(graph, ZERO_BUBBLE, (3, 6, 9), micro_batches=3, chunks=2)) == {}
    replicated = cut(graph, ZERO_BUBBLE, (3, 6, 9), micro_batches=3, chunks=2, replicas=2)
    # Over two replicas a ring passes all bytes once.
    total = sum(seconds for found in reductions(replicated).values() for seconds in found)
    assert total == pytest.approx(graph.gradient_bytes)


def test_the_two_copies_of_chimera_sum_all_their_gradients() -> None:
    graph = zoo_graph("gpt2_tiny")
    timeline = cut(graph, CHIMERA, (5,), micro_batches=2)
    # Both ranks hold everything: one exchange of all gradients.
    assert reductions(timeline) == {rank: [graph.gradient_bytes] for rank in (0, 1)}


def test_the_gradient_of_a_shared_weight_is_complete_with_the_lowest_unit_of_the_stage() -> None:
    # Units 6 and 14 share the embedding with unit 0, which is in the other stage.
    timeline = cut(zoo_graph("t5_tiny"), GPIPE, (6,), micro_batches=2, replicas=2)
    summed = {
        e.instruction.unit
        for e in timeline.events
        if e.instruction.kind is InstructionKind.REDUCE_GRADIENTS and e.instruction.rank == 1
    }
    assert 6 in summed
    assert 14 not in summed  # the head has no other weights


def test_ranks_of_overlapping_exchanges_start_each_of_them_together() -> None:
    timeline = cut(zoo_graph("t5_tiny"), CHIMERA, (4, 7, 12), micro_batches=4)
    begins: dict[float, set[float]] = {}
    ranks: dict[float, set[int]] = {}
    for event in timeline.events:
        if event.instruction.kind is InstructionKind.REDUCE_GRADIENTS:
            begins.setdefault(event.instruction.duration_s, set()).add(event.start_s)
            ranks.setdefault(event.instruction.duration_s, set()).add(event.instruction.rank)
    assert sorted(map(sorted, ranks.values())) == [[0, 1, 2, 3], [0, 3], [1, 2]]
    assert all(len(starts_of_one) == 1 for starts_of_one in begins.values())


def test_replicas_that_hold_shards_exchange_shards() -> None:
    whole = cut(zoo_graph("gpt2_tiny"), GPIPE, (5,), micro_batches=2, replicas=2)
    shard = cut(zoo_graph("gpt2_tiny"), GPIPE, (5,), micro_batches=2, replicas=2, zero_stage=2)
    for timeline, seconds in ((whole, EMBEDDING), (shard, EMBEDDING / 2)):
        exchanged = [
            e.instruction.duration_s
            for e in timeline.events
            if e.instruction.kind is InstructionKind.REDUCE_GRADIENTS and e.instruction.unit < 0
        ]
        assert exchanged == [seconds, seconds]


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_receive_buffers_are_there_for_every_micro_batch_and_direction(micro_batches: int) -> None:
    timeline = cut(zoo_graph("gpt2_tiny"), GPIPE, (4, 8), micro_batches)
    assert received_bytes(timeline) == [n * micro_batches * HIDDEN for n in (1, 2, 1)]
    for samples in timeline.memory:
        assert len({sample.by_kind[MemoryKind.RECEIVE] for sample in samples}) == 1


def test_a_skip_connection_goes_from_its_maker_to_each_reader_and_its_gradient_back() -> None:
    # Units 0, 3 and 6 end the levels of the contracting path, 12, 11 and 10 read them again.
    timeline = cut(zoo_graph("unet_tiny"), GPIPE, (3, 10), micro_batches=2)
    top, second, third = 524288, 262144, 131072
    bottom = 65536
    inner = 262144  # from unit 2 to unit 3
    to_last = second + third + bottom
    assert sent_bytes(timeline) == [
        sorted([inner, top]),
        sorted([to_last, inner]),
        sorted([to_last, top]),
    ]
    assert received_bytes(timeline) == [
        2 * (inner + top),
        2 * (inner + to_last),
        2 * (to_last + top),
    ]


def test_a_tensor_that_two_units_of_a_stage_read_is_sent_once() -> None:
    # Unit 0's result goes to units 1 and 12, both in the second stage.
    timeline = cut(zoo_graph("unet_tiny"), GPIPE, (1,), micro_batches=1)
    assert sent_bytes(timeline) == [[524288], [524288]]


def test_what_gets_no_gradient_is_sent_one_way_only() -> None:
    # The decoder gets the encoder's result and its mask; the mask depends on no weight.
    timeline = cut(zoo_graph("t5_tiny"), GPIPE, (6,), micro_batches=1)
    forward, backward = sent_bytes(timeline)
    assert forward == [HIDDEN + 1024]
    assert backward == [HIDDEN]
