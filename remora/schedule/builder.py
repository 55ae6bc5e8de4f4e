"""Collects the instructions and buffers of all ranks while a schedule is lowered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from remora.schedule.program import (
    Buffer,
    Instruction,
    InstructionKind,
    MemoryKind,
    Program,
    Stream,
)


@dataclasses.dataclass(slots=True)
class _Outgoing:
    """Messages of one task, and the buffers that are held for them."""

    messages: list[int] = dataclasses.field(default_factory=list)
    buffers: list[int] = dataclasses.field(default_factory=list)


class Ledger:
    """Instructions and buffers of one program, in an order in which they can be issued."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.buffers: list[Buffer] = []

    def add(self, instruction: Instruction) -> int:
        """Append an instruction and return its index."""
        self.instructions.append(instruction)
        return len(self.instructions) - 1

    def program(
        self, resident_bytes: Sequence[Mapping[MemoryKind, int]], host_bytes: Sequence[int]
    ) -> Program:
        """Freeze what was collected."""
        return Program(
            tuple(self.instructions), tuple(self.buffers), tuple(resident_bytes), tuple(host_bytes)
        )


class RankBuilder:
    """Appends one rank's instructions and keeps what its next compute instruction must do.

    Args:
        ledger: receives the instructions.
        rank: whose they are.
        copies_overlap: host copies have streams of their own; otherwise they run in line.

    Attributes:
        last_compute: index of the latest compute instruction; None before the first.
    """

    def __init__(self, ledger: Ledger, rank: int, copies_overlap: bool) -> None:
        self.last_compute: int | None = None
        self._ledger = ledger
        self._rank = rank
        self._copies_overlap = copies_overlap
        self._gradients: list[int] = []
        self._waits: list[int] = []
        self._early_releases: list[int] = []
        self._early_allocates: list[int] = []
        self._sending = _Outgoing()
        self._sent = _Outgoing()

    def buffer(self, num_bytes: int, kind: MemoryKind) -> int:
        """Make a buffer and return its index."""
        self._ledger.buffers.append(Buffer(num_bytes, kind))
        index = len(self._ledger.buffers) - 1
        if kind is MemoryKind.GRADIENTS:
            self._gradients.append(index)
        return index

    def buffer_bytes(self, buffer: int) -> int:
        """Size of a buffer."""
        return self._ledger.buffers[buffer].num_bytes

    def take_gradients(self) -> tuple[int, ...]:
        """All gradient buffers made and not taken so far."""
        taken = tuple(self._gradients)
        self._gradients = []
        return taken

    def drop_gradients(self, buffers: Iterable[int]) -> None:
        """Forget gradient buffers that somebody else releases."""
        for buffer in buffers:
            self._gradients.remove(buffer)

    def wait(self, instruction: int) -> None:
        """Let the next compute instruction wait for an earlier one."""
        self._waits.append(instruction)

    def release_early(self, buffers: Iterable[int]) -> None:
        """Release buffers when the next compute instruction starts."""
        self._early_releases.extend(buffers)

    def allocate_early(self, buffers: Iterable[int]) -> None:
        """Allocate buffers when the next compute instruction starts."""
        self._early_allocates.extend(buffers)

    def hold_for_send(self, buffers: Iterable[int]) -> None:
        """Keep buffers of the running task until its messages are waited for."""
        self._sending.buffers.extend(buffers)

    def begin_task(self) -> None:
        """Note that a task begins: wait for what the task before last sent, and release it."""
        self.release_early(self._wait_for(self._sent))
        self._sent, self._sending = self._sending, _Outgoing()

    def end_step(self) -> list[int]:
        """Wait for all messages; returns the buffers that are still held for them."""
        held = [*self._wait_for(self._sent), *self._wait_for(self._sending)]
        self._sent, self._sending = _Outgoing(), _Outgoing()
        return held

    def _wait_for(self, outgoing: _Outgoing) -> list[int]:
        if outgoing.buffers:
            self._waits.extend(outgoing.messages)
        return outgoing.buffers

    def release_pending_at_end(self) -> None:
        """Release now what the next compute instruction should, because there is none."""
        pending, self._early_releases = self._early_releases, []
        self.release_at_end(pending)

    def release_at_end(self, buffers: Iterable[int]) -> None:
        """Release buffers together with the last compute instruction's own releases."""
        assert self.last_compute is not None
        last = self._ledger.instructions[self.last_compute]
        merged = (*last.releases, *buffers)
        self._ledger.instructions[self.last_compute] = dataclasses.replace(last, releases=merged)

    def compute(
        self,
        kind: InstructionKind,
        unit: int,
        micro_batch: int,
        duration_s: float,
        transient_bytes: int,
        stage: int = 0,
        allocates: Iterable[int] = (),
        releases: Iterable[int] = (),
        collective_s: float = 0.0,
    ) -> int:
        """Append a compute instruction with all pending waits and early changes."""
        self.last_compute = self._ledger.add(
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
                stage=stage,
                collective_s=collective_s,
            )
        )
        self._waits, self._early_releases, self._early_allocates = [], [], []
        return self.last_compute

    def issue(
        self,
        kind: InstructionKind,
        stream: Stream,
        unit: int,
        micro_batch: int,
        duration_s: float,
        stage: int = 0,
        host_bytes: int = 0,
        waits: Iterable[int] = (),
    ) -> int:
        """Append work of another stream, which starts after everything computed so far."""
        issued = (self.last_compute,) if self.last_compute is not None else ()
        copy = stream in (Stream.D2H, Stream.H2D)
        return self._ledger.add(
            Instruction(
                kind=kind,
                rank=self._rank,
                stream=Stream.COMPUTE if copy and not self._copies_overlap else stream,
                unit=unit,
                micro_batch=micro_batch,
                duration_s=duration_s,
                waits=(*issued, *waits),
                host_bytes=host_bytes,
                stage=stage,
            )
        )

    def send(self, micro_batch: int, stage: int, duration_s: float) -> int:
        """Append a message of the running task."""
        message = self.issue(
            InstructionKind.SEND, Stream.SEND, -1, micro_batch, duration_s, stage=stage
        )
        self._sending.messages.append(message)
        return message

    def receive(self, send: int, micro_batch: int, stage: int) -> None:
        """Let the next compute instruction wait for a message."""
        self.wait(
            self._ledger.add(
                Instruction(
                    kind=InstructionKind.RECEIVE,
                    rank=self._rank,
                    stream=Stream.RECV,
                    unit=-1,
                    micro_batch=micro_batch,
                    duration_s=0.0,
                    waits=(send,),
                    stage=stage,
                )
            )
        )
