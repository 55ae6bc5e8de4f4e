"""Who is told what a run does: a log that writes it down, or nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch

from remora.executor.timeline.clocks import Clock, Mark
from remora.schedule.program import InstructionKind, Stream

__all__ = ["SILENT", "EventKey", "EventLog", "RecordedLog", "Span", "TurnTo"]

TurnTo = Callable[[int], None]
"""Called where a unit begins."""


class EventLog(Protocol):
    """What a run tells: every piece of work has the labels of a program's instruction."""

    def begin(self, kind: InstructionKind, unit: int, micro_batch: int = 0, stage: int = 0) -> None:
        """Note that the compute stream turns to something else, until it does so again."""
        ...

    def again(self, kind: InstructionKind) -> AbstractContextManager[TurnTo]:
        """Note that what runs is interrupted to make something again, unit by unit."""
        ...

    def event(
        self,
        kind: InstructionKind,
        stream: Stream,
        unit: int = -1,
        micro_batch: int = 0,
        stage: int = 0,
        on: torch.cuda.Stream | None = None,
    ) -> AbstractContextManager[None]:
        """Note work of any stream; ``on`` is the device's, None for its compute stream."""
        ...

    def copy(
        self, kind: InstructionKind, unit: int, on: torch.cuda.Stream | None
    ) -> AbstractContextManager[None]:
        """Note a copy to the host or back on a stream of its own; None for the compute stream."""
        ...


class _Silent:
    """Nobody is told anything."""

    def begin(self, kind: InstructionKind, unit: int, micro_batch: int = 0, stage: int = 0) -> None:
        """Do nothing."""

    def again(self, kind: InstructionKind) -> AbstractContextManager[TurnTo]:
        """Do nothing."""
        return contextlib.nullcontext(_nothing)

    def event(
        self,
        kind: InstructionKind,
        stream: Stream,
        unit: int = -1,
        micro_batch: int = 0,
        stage: int = 0,
        on: torch.cuda.Stream | None = None,
    ) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def copy(
        self, kind: InstructionKind, unit: int, on: torch.cuda.Stream | None
    ) -> AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()


def _nothing(unit: int) -> None:
    pass


SILENT: EventLog = _Silent()
"""For runs that nobody records."""


@dataclass(frozen=True, slots=True)
class EventKey:
    """Labels of an instruction: what is equal in a simulated and in a measured run."""

    kind: InstructionKind
    stream: Stream
    unit: int
    micro_batch: int
    stage: int


@dataclass(frozen=True, slots=True)
class Span:
    """Work that was noted.

    Attributes:
        key: what it was.
        start, end: when.
        inside: index of the span of the compute stream that it interrupted; -1 for none.
    """

    key: EventKey
    start: Mark
    end: Mark
    inside: int = -1


class RecordedLog:
    """Writes down one step of one rank.

    Args:
        clock: of the device.

    Attributes:
        spans: what was done; None for what has not ended.
        marks: all moments of the compute stream, in order.
    """

    def __init__(self, clock: Clock) -> None:
        self.spans: list[Span | None] = []
        self.marks: list[Mark] = []
        self._clock = clock
        self._running: tuple[int, EventKey, Mark] | None = None

    def begin(self, kind: InstructionKind, unit: int, micro_batch: int = 0, stage: int = 0) -> None:
        """End what runs on the compute stream, and begin something else."""
        mark = self._mark()
        self._end(mark)
        key = EventKey(kind, Stream.COMPUTE, unit, micro_batch, stage)
        self._running = (len(self.spans), key, mark)
        self.spans.append(None)

    def restart(self, clock: Clock) -> None:
        """Forget everything; what comes next is timed by ``clock``."""
        self.spans, self.marks, self._running, self._clock = [], [], None, clock

    def finish(self) -> None:
        """End what runs on the compute stream."""
        self._end(self._mark())

    @contextlib.contextmanager
    def again(self, kind: InstructionKind) -> Iterator[TurnTo]:
        """Note units that are made again inside of what runs."""
        inside = -1 if self._running is None else self._running[0]
        around = None if self._running is None else self._running[1]
        micro_batch, stage = (0, 0) if around is None else (around.micro_batch, around.stage)
        current: list[tuple[EventKey, Mark]] = []

        def turn_to(unit: int) -> None:
            mark = self._mark()
            if current:
                self.spans.append(Span(*current.pop(), mark, inside))
            if unit >= 0:
                key = EventKey(kind, Stream.COMPUTE, unit, micro_batch, stage)
                current.append((key, mark))

        try:
            yield turn_to
        finally:
            turn_to(-1)

    @contextlib.contextmanager
    def event(
        self,
        kind: InstructionKind,
        stream: Stream,
        unit: int = -1,
        micro_batch: int = 0,
        stage: int = 0,
        on: torch.cuda.Stream | None = None,
    ) -> Iterator[None]:
        """Note work of any stream; on the compute stream it interrupts what runs."""
        computes = stream is Stream.COMPUTE
        inside = self._running[0] if computes and self._running is not None else -1
        start = self._mark() if computes else self._clock.now(on)
        try:
            yield
        finally:
            key = EventKey(kind, stream, unit, micro_batch, stage)
            end = self._mark() if computes else self._clock.now(on)
            self.spans.append(Span(key, start, end, inside))

    @contextlib.contextmanager
    def copy(
        self, kind: InstructionKind, unit: int, on: torch.cuda.Stream | None
    ) -> Iterator[None]:
        """Note a copy; it begins once the compute stream gets to where it is issued."""
        of_copies = Stream.D2H if kind is InstructionKind.OFFLOAD else Stream.H2D
        around = None if self._running is None else self._running[1]
        micro_batch, stage = (0, 0) if around is None else (around.micro_batch, around.stage)
        if on is not None:
            on.wait_stream(torch.cuda.current_stream(on.device))
        stream = Stream.COMPUTE if on is None else of_copies
        with self.event(kind, stream, unit, micro_batch, stage, on):
            yield

    def _mark(self) -> Mark:
        self.marks.append(self._clock.now())
        self._clock.note_level()
        return self.marks[-1]

    def _end(self, mark: Mark) -> None:
        if self._running is not None:
            index, key, start = self._running
            self.spans[index] = Span(key, start, mark)
            self._running = None
