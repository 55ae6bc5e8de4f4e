"""Waits of a program must have an end: a cycle of them would hang every stream on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from remora.errors import InvalidInputError
from remora.schedule.program import Instruction, Program, Stream

__all__ = ["check_waits"]


def check_waits(program: Program) -> None:
    """Check that the instructions can run in some order.

    An instruction comes after the one before it in its stream and after everything it waits for.

    Raises:
        InvalidInputError: a wait names no instruction, or some instructions wait for each other;
            names them.
    """
    instructions = program.instructions
    before = [_before(index, program) for index in range(len(instructions))]
    for index, previous in enumerate(_stream_predecessors(instructions)):
        if previous >= 0:
            before[index].append(previous)
    stuck = _stuck(before)
    if stuck:
        cycle = _cycle(before, stuck)
        raise InvalidInputError(
            f"program.instructions: {', '.join(_words(i, instructions[i]) for i in cycle)} wait "
            "for each other, each for the next and the last for the first; allowed: waits and "
            "streams without a cycle"
        )


def _before(index: int, program: Program) -> list[int]:
    """What an instruction waits for."""
    instruction, count = program.instructions[index], len(program.instructions)
    for wait in instruction.waits:
        if not 0 <= wait < count:
            raise InvalidInputError(
                f"program.instructions: {_words(index, instruction)} waits for {wait}; allowed: "
                f"0 to {count - 1}"
            )
    return list(instruction.waits)


def _stream_predecessors(instructions: Sequence[Instruction]) -> list[int]:
    """Return the instruction before each in its stream, or -1.  # [num_instructions]."""
    latest: dict[tuple[int, Stream], int] = {}
    found = []
    for index, instruction in enumerate(instructions):
        stream = (instruction.rank, instruction.stream)
        found.append(latest.get(stream, -1))
        latest[stream] = index
    return found


def _stuck(before: Sequence[Sequence[int]]) -> set[int]:
    """Instructions that never become ready (Kahn 1962): those on or behind a cycle."""
    after: list[list[int]] = [[] for _ in before]
    missing = [len(earlier) for earlier in before]
    for index, earlier in enumerate(before):
        for other in earlier:
            after[other].append(index)
    ready = deque(index for index, count in enumerate(missing) if not count)
    stuck = set(range(len(before)))
    while ready:
        index = ready.popleft()
        stuck.discard(index)
        for other in after[index]:
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    return stuck


def _cycle(before: Sequence[Sequence[int]], stuck: set[int]) -> list[int]:
    """Walk back among stuck instructions until one comes up again."""
    path: dict[int, int] = {}
    current = min(stuck)
    while current not in path:
        path[current] = len(path)
        current = next(other for other in before[current] if other in stuck)
    return list(path)[path[current] :]


def _words(index: int, instruction: Instruction) -> str:
    what, stream = instruction.kind.value, instruction.stream.value
    return f"instruction {index} ({what}, rank {instruction.rank}, stream {stream})"
