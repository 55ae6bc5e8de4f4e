"""What crosses between ranks, when and how large: messages and receive buffers, by hand."""

from __future__ import annotations

import dataclasses

import pytest

from remora.hardware.hardware import HardwareState, Link
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.schedule import PipelineKind
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.pipelines import equal_problem, equal_schedule, gpu_hardware
from tests.problems import zoo_graph
from tests.simulator.cut_models import HIDDEN, cut, sends, sent_bytes

GPIPE, ONE_F_ONE_B = PipelineKind.GPIPE, PipelineKind.ONE_F_ONE_B


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


def received_bytes(timeline: Timeline) -> list[int]:
    return [samples[0].by_kind.get(MemoryKind.RECEIVE, 0) for samples in timeline.memory]


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_what_was_sent_is_held_until_its_stage_has_run_backward(micro_batches: int) -> None:
    problem = equal_problem(2, micro_batches)
    timeline = simulate(problem, equal_schedule(problem.graph, GPIPE, 2, micro_batches))
    after_forwards = [
        [
            sample.by_kind.get(MemoryKind.BOUNDARY, 0)
            for sample in samples
            if timeline.events[sample.instruction].instruction.kind is InstructionKind.FORWARD
        ][-1]
        for samples in timeline.memory
    ]
    # The second block saves what the first one makes; its own result is sent, or read by the head.
    hidden = 4 * 16 * 4
    # The last stage also holds the head's result, which the loss saves, and the loss.
    loss = 4 * 4 * 4 + 4
    assert after_forwards == [2 * hidden * micro_batches, (2 * hidden + loss) * micro_batches]


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
