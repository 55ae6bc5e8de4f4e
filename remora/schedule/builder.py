"""Collects instructions and buffers of one rank while a schedule is lowered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from remora.schedule.program import (
    Buffer,
    Instruction,
    InstructionKind,
    MemoryKind,
    Program,
    Stream,
)


class ProgramBuilder:
    """Appends instructions in issue order and keeps what the next compute instruction must do.

    Args:
        copies_overlap: host copies have streams of their own; otherwise they run in line.
        rank: rank whose instructions are built.
    """

    def __init__(self, copies_overlap: bool, rank: int = 0) -> None:
        self._copies_overlap = copies_overlap
        self._rank = rank
        self._instructions: list[Instruction] = []
        self._buffers: list[Buffer] = []
        self._gradients: list[int] = []
        self._last_compute: int | None = None
        self._waits: list[int] = []
        self._early_releases: list[int] = []
        self._early_allocates: list[int] = []

    def buffer(self, num_bytes: int, kind: MemoryKind) -> int:
        """Make a buffer and return its index."""
        self._buffers.append(Buffer(num_bytes, kind))
        index = len(self._buffers) - 1
        if kind is MemoryKind.GRADIENTS:
            self._gradients.append(index)
        return index

    def gradients(self) -> tuple[int, ...]:
        """All gradient buffers made so far."""
        return tuple(self._gradients)

    def wait(self, instruction: int) -> None:
        """Let the next compute instruction wait for an earlier one."""
        self._waits.append(instruction)

    def release_early(self, buffers: Iterable[int]) -> None:
        """Release buffers when the next compute instruction starts."""
        self._early_releases.extend(buffers)

    def allocate_early(self, buffers: Iterable[int]) -> None:
        """Allocate buffers when the next compute instruction starts."""
        self._early_allocates.extend(buffers)

    def compute(
        self,
        kind: InstructionKind,
        unit: int,
        micro_batch: int,
        duration_s: float,
        transient_bytes: int,
        allocates: Iterable[int] = (),
        releases: Iterable[int] = (),
    ) -> int:
        """Append a compute instruction with all pending waits and early changes."""
        self._instructions.append(
            Instruction(
                kind=kind,
                rank=self._rank,
                stream=Stream.COMPUTE,
                unit=unit,
                micro_batch=micro_batch,
                duration_s=duration_s,
                waits=tuple(self._waits),
                early_releases=tuple(self._early_releases),
                early_allocates=tuple(self._early_allocates),
                allocates=tuple(allocates),
                releases=tuple(releases),
                transient_bytes=transient_bytes,
            )
        )
        self._waits, self._early_releases, self._early_allocates = [], [], []
        self._last_compute = len(self._instructions) - 1
        return self._last_compute

    def copy(
        self,
        kind: InstructionKind,
        unit: int,
        micro_batch: int,
        duration_s: float,
        host_bytes: int,
        waits: Iterable[int] = (),
    ) -> int:
        """Append a host copy that is issued after everything computed so far."""
        stream = Stream.D2H if kind is InstructionKind.OFFLOAD else Stream.H2D
        issued = (self._last_compute,) if self._last_compute is not None else ()
        self._instructions.append(
            Instruction(
                kind=kind,
                rank=self._rank,
                stream=stream if self._copies_overlap else Stream.COMPUTE,
                unit=unit,
                micro_batch=micro_batch,
                duration_s=duration_s,
                waits=(*issued, *waits),
                host_bytes=host_bytes,
            )
        )
        return len(self._instructions) - 1

    def release_at_end(self, buffers: Iterable[int]) -> None:
        """Release buffers together with the last compute instruction's own releases."""
        assert self._last_compute is not None
        last = self._instructions[self._last_compute]
        merged = (*last.releases, *buffers)
        self._instructions[self._last_compute] = dataclasses.replace(last, releases=merged)

    def program(self, resident_bytes: tuple[Mapping[MemoryKind, int], ...]) -> Program:
        """Freeze what was collected."""
        return Program(tuple(self._instructions), tuple(self._buffers), resident_bytes)
