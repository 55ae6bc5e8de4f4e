"""The plain-Python reference engine: runs a program on in-order streams.

Streams are in order, like CUDA streams: an instruction starts when its stream is free and the
instructions it waits for have ended. Memory follows the order of the compute stream alone, so the
peak depends on no duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from remora.errors import InvalidInputError
from remora.schedule.program import Instruction, InstructionKind, MemoryKind, Program, Stream
from remora.schedule.waits import check_waits
from remora.simulator.timeline import MemorySample, TimedInstruction, Timeline


def run(program: Program) -> Timeline:
    """Simulate ``program``.

    Returns:
        its timeline; memory samples stand at starts and ends of compute instructions.

    Raises:
        InvalidInputError: an instruction waits for a later one.
    """
    _check_order(program)
    times = _times(program.instructions)
    ranks = [
        _RankMemory(dict(resident), host_bytes=host, host_peak_bytes=host)
        for resident, host in zip(program.resident_bytes, program.host_bytes, strict=True)
    ]
    for index, instruction in enumerate(program.instructions):
        ranks[instruction.rank].apply(program, index, *times[index])
    events = [
        TimedInstruction(instruction, start, end - instruction.collective_s)
        for instruction, (start, end) in zip(program.instructions, times, strict=True)
    ]
    events += [
        _collectives(event.instruction, end)
        for event, (_, end) in zip(events, times, strict=True)
        if event.instruction.collective_s
    ]
    fullest = max(ranks, key=lambda rank: rank.peak_bytes)
    return Timeline(
        step_time_s=max((end for _, end in times), default=0.0),
        peak_bytes=tuple(rank.peak_bytes for rank in ranks),
        host_peak_bytes=tuple(rank.host_peak_bytes for rank in ranks),
        peak_breakdown=fullest.peak_breakdown,
        events=tuple(events),
        memory=tuple(tuple(rank.samples) for rank in ranks),
    )


def _check_order(program: Program) -> None:
    """Refuse waits that the one pass over the instructions would not see."""
    for index, instruction in enumerate(program.instructions):
        if all(0 <= other < index for other in instruction.waits):
            continue
        check_waits(program)
        raise InvalidInputError(
            f"program.instructions[{index}].waits is {list(instruction.waits)}; allowed: earlier "
            "instructions"
        )


def _times(instructions: Iterable[Instruction]) -> list[tuple[float, float]]:
    free_at: dict[tuple[int, Stream], float] = {}
    times: list[tuple[float, float]] = []
    for instruction in instructions:
        queue = (instruction.rank, instruction.stream)
        start = free_at.get(queue, 0.0)
        for other in instruction.waits:
            start = max(start, times[other][1])
        end = start + instruction.duration_s
        free_at[queue] = end
        times.append((start, end))
    return times


def _collectives(instruction: Instruction, end_s: float) -> TimedInstruction:
    """What ranks that share layers send within a compute instruction, shown at its end."""
    shown = Instruction(
        kind=InstructionKind.SHARE_LAYERS,
        rank=instruction.rank,
        stream=Stream.TENSOR,
        unit=instruction.unit,
        micro_batch=instruction.micro_batch,
        duration_s=instruction.collective_s,
        stage=instruction.stage,
    )
    return TimedInstruction(shown, end_s - instruction.collective_s, end_s)


@dataclass
class _RankMemory:
    """Level, peak and samples of one rank while the program runs."""

    levels: dict[MemoryKind, int]
    samples: list[MemorySample] = field(default_factory=list)
    peak_bytes: int = 0
    peak_breakdown: Mapping[MemoryKind, int] = field(default_factory=dict)
    host_bytes: int = 0
    host_peak_bytes: int = 0

    def apply(self, program: Program, index: int, start_s: float, end_s: float) -> None:
        """Make the memory changes of one instruction."""
        instruction = program.instructions[index]
        self.host_bytes += instruction.host_bytes
        self.host_peak_bytes = max(self.host_peak_bytes, self.host_bytes)
        if instruction.stream is not Stream.COMPUTE:
            return
        self._change(program, instruction.early_releases, -1)
        self._change(program, instruction.early_allocates, +1)
        before = sum(self.levels.values())
        self._note(start_s, index, before, instruction.transient_bytes)
        self._change(program, instruction.allocates, +1)
        self._change(program, instruction.releases, -1)
        self._note(end_s, index, sum(self.levels.values()), 0)

    def _change(self, program: Program, buffers: Iterable[int], sign: int) -> None:
        for buffer in buffers:
            record = program.buffers[buffer]
            self.levels[record.kind] = self.levels.get(record.kind, 0) + sign * record.num_bytes

    def _note(self, time_s: float, index: int, level: int, transient: int) -> None:
        by_kind = dict(self.levels)
        if transient:
            by_kind[MemoryKind.WORKSPACE] = by_kind.get(MemoryKind.WORKSPACE, 0) + transient
        self.samples.append(MemorySample(time_s, level + transient, by_kind, index))
        if level + transient > self.peak_bytes:
            self.peak_bytes = level + transient
            self.peak_breakdown = by_kind
