"""A simulated or measured run of a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from remora.schedule.program import Instruction, MemoryKind


@dataclass(frozen=True, slots=True)
class TimedInstruction:
    """An instruction with its start and end.

    Attributes:
        instruction: of the program.
        start_s, end_s: seconds from the start of the step.
    """

    instruction: Instruction
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Device memory of one rank from ``time_s`` until the next sample.

    Attributes:
        time_s: when the level is reached.
        level_bytes: bytes held, workspace of the running instruction included.
        by_kind: the same, by kind.
        instruction: index of the instruction that caused it.
    """

    time_s: float
    level_bytes: int
    by_kind: Mapping[MemoryKind, int]
    instruction: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Start and end of every instruction, and the memory of every rank over time.

    Attributes:
        step_time_s: from the start to the end of the last instruction.
        peak_bytes: largest level of every rank.  # [num_ranks]
        host_peak_bytes: largest number of pinned host bytes of every rank.  # [num_ranks]
        peak_breakdown: bytes by kind at the peak of the fullest rank.
        events: timed instructions, in program order; after them what ranks that share layers send.
        memory: samples of every rank, in order of time.  # [num_ranks][num_samples]
    """

    step_time_s: float
    peak_bytes: tuple[int, ...]
    host_peak_bytes: tuple[int, ...]
    peak_breakdown: Mapping[MemoryKind, int]
    events: tuple[TimedInstruction, ...]
    memory: tuple[tuple[MemorySample, ...], ...]

    @property
    def max_peak_bytes(self) -> int:
        """Peak of the fullest rank."""
        return max(self.peak_bytes)
