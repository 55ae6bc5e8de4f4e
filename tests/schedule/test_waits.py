"""Programs whose instructions wait for each other are refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.errors import InvalidInputError
from remora.schedule.lowering import lower
from remora.schedule.program import Instruction, InstructionKind, MemoryKind, Program, Stream
from remora.schedule.waits import check_waits
from remora.simulator.engine import run
from tests.problems import toy_graph
from tests.schedule.full_plans import full_problem, random_full_schedule


def program(*instructions: Instruction) -> Program:
    ranks = 1 + max(instruction.rank for instruction in instructions)
    return Program(instructions, (), ({MemoryKind.WEIGHTS: 0},) * ranks, (0,) * ranks)


def computing(rank: int, *waits: int) -> Instruction:
    return Instruction(InstructionKind.FORWARD, rank, Stream.COMPUTE, 0, 0, 1.0, waits)


def sending(rank: int, *waits: int) -> Instruction:
    return Instruction(InstructionKind.SEND, rank, Stream.SEND, -1, 0, 1.0, waits)


def receiving(rank: int, *waits: int) -> Instruction:
    return Instruction(InstructionKind.RECEIVE, rank, Stream.RECV, -1, 0, 0.0, waits)


def crossed() -> Program:
    """Two ranks that each wait for the other's message before they compute what they send."""
    return program(
        receiving(0, 5),
        computing(0, 0),
        sending(0, 1),
        receiving(1, 2),
        computing(1, 3),
        sending(1, 4),
    )


def test_two_ranks_that_wait_for_each_other_are_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_waits(crossed())
    message = str(caught.value)
    for words in (
        "instruction 0 (receive, rank 0, stream recv)",
        "instruction 1 (forward, rank 0, stream compute)",
        "instruction 2 (send, rank 0, stream send)",
        "instruction 3 (receive, rank 1, stream recv)",
        "instruction 5 (send, rank 1, stream send)",
    ):
        assert words in message
    assert "without a cycle" in message


def test_the_order_of_a_stream_can_close_a_cycle() -> None:
    # The first of the stream waits for what the second one makes.
    late = program(computing(0, 2), computing(0), sending(0, 1))
    with pytest.raises(InvalidInputError, match=r"instruction 0 .*instruction 1 "):
        check_waits(late)


def test_only_the_cycle_is_named_and_not_what_waits_behind_it() -> None:
    behind = program(computing(0, 1), sending(0, 0), receiving(1, 1), computing(1, 2))
    with pytest.raises(InvalidInputError) as caught:
        check_waits(behind)
    assert "rank 1" not in str(caught.value)


def test_an_instruction_that_waits_for_itself_is_a_cycle() -> None:
    with pytest.raises(InvalidInputError, match=r"instruction 1 \(send"):
        check_waits(program(computing(0), sending(0, 1)))


@pytest.mark.parametrize("wait", [-1, 2, 99])
def test_a_wait_for_nothing_is_refused(wait: int) -> None:
    message = rf"instruction 1 \(send, rank 0, stream send\) waits for {wait}; allowed: 0 to 1"
    with pytest.raises(InvalidInputError, match=message):
        check_waits(program(computing(0), sending(0, wait)))


def test_the_engine_refuses_what_it_cannot_run_in_one_pass() -> None:
    with pytest.raises(InvalidInputError, match="without a cycle"):
        run(crossed())
    swapped = program(receiving(1, 1), sending(0), computing(1, 0))
    check_waits(swapped)
    with pytest.raises(InvalidInputError, match=r"instructions\[0\].waits is \[1\]; allowed: ear"):
        run(swapped)


@given(seed=st.integers(0, 100_000), world_size=st.sampled_from([1, 2, 4]))
def test_lowered_schedules_wait_for_earlier_instructions_only(seed: int, world_size: int) -> None:
    problem = full_problem(toy_graph(), world_size)
    lowered = lower(problem, random_full_schedule(problem, seed))
    check_waits(lowered)
    for index, instruction in enumerate(lowered.instructions):
        assert all(0 <= other < index for other in instruction.waits)
