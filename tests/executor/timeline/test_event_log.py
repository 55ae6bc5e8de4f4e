"""From noted moments to instructions, by a clock that ticks once whenever it is read."""

from __future__ import annotations

import contextlib

import torch

from remora.executor.timeline.assemble import timed_instructions
from remora.executor.timeline.clocks import Mark
from remora.executor.timeline.event_log import SILENT, EventLog, RecordedLog
from remora.executor.timeline.levels import memory_samples
from remora.schedule.program import InstructionKind, Stream

FORWARD, BACKWARD = InstructionKind.FORWARD, InstructionKind.BACKWARD
RECOMPUTE, RESTORE = InstructionKind.RECOMPUTE, InstructionKind.RESTORE
OFFLOAD, PREFETCH = InstructionKind.OFFLOAD, InstructionKind.PREFETCH


class Ticks:
    """The n-th moment is at n seconds."""

    def __init__(self) -> None:
        self.levels_bytes: list[tuple[int, int]] = []
        self._ticks = -1

    def now(self, stream: torch.cuda.Stream | None = None) -> Mark:
        self._ticks += 1
        return float(self._ticks)

    def note_level(self) -> None:
        pass

    def settle(self) -> None:
        pass

    def since_s(self, base: Mark, mark: Mark) -> float:
        assert isinstance(base, float)
        assert isinstance(mark, float)
        return mark - base


Row = tuple[InstructionKind, int, float, float]


def _rows(log: RecordedLog, clock: Ticks) -> list[Row]:
    return [
        (e.instruction.kind, e.instruction.unit, e.start_s, e.end_s)
        for e in timed_instructions(log, clock)
    ]


def test_what_begins_ends_what_ran() -> None:
    clock = Ticks()
    log = RecordedLog(clock)
    log.begin(FORWARD, 0)
    log.begin(FORWARD, 1, micro_batch=3, stage=2)
    log.finish()
    assert _rows(log, clock) == [(FORWARD, 0, 0.0, 1.0), (FORWARD, 1, 1.0, 2.0)]
    second = timed_instructions(log, clock, rank=4)[1].instruction
    assert (second.rank, second.micro_batch, second.stage) == (4, 3, 2)
    assert second.duration_s == 1.0


def test_what_interrupts_a_backward_stands_before_it() -> None:
    clock = Ticks()
    log = RecordedLog(clock)
    log.begin(BACKWARD, 5)
    with log.again(RECOMPUTE) as turn_to:  # from 1 to 3
        turn_to(4)
        turn_to(5)
    with log.again(RESTORE) as turn_to:  # from 4 to 5
        turn_to(5)
    with log.copy(PREFETCH, 3, None):  # from 6 to 7
        pass
    with log.copy(PREFETCH, 3, None):  # from 8 to 9
        pass
    log.finish()
    assert _rows(log, clock) == [
        (RECOMPUTE, 4, 0.0, 1.0),
        (RECOMPUTE, 5, 1.0, 2.0),
        (RESTORE, 5, 2.0, 3.0),
        (PREFETCH, 3, 3.0, 5.0),
        (BACKWARD, 5, 5.0, 10.0),
    ]


def test_what_a_forward_sends_away_stands_behind_it() -> None:
    clock = Ticks()
    log = RecordedLog(clock)
    log.begin(FORWARD, 0)
    for _ in range(2):
        with log.copy(OFFLOAD, 0, None):
            pass
    log.finish()
    assert _rows(log, clock) == [(FORWARD, 0, 0.0, 3.0), (OFFLOAD, 0, 3.0, 5.0)]


def test_other_streams_run_beside_it() -> None:
    clock = Ticks()
    log = RecordedLog(clock)
    log.begin(FORWARD, 0)
    for unit in (0, 0, 1):
        with log.event(OFFLOAD, Stream.D2H, unit):
            pass
    log.finish()
    rows = _rows(log, clock)
    assert rows == [(FORWARD, 0, 0.0, 7.0), (OFFLOAD, 0, 1.0, 4.0), (OFFLOAD, 1, 5.0, 6.0)]


def test_an_error_in_what_is_noted_passes_and_ends_it() -> None:
    clock = Ticks()
    log = RecordedLog(clock)
    log.begin(BACKWARD, 0)
    with contextlib.suppress(KeyError), log.again(RECOMPUTE) as turn_to:
        turn_to(0)
        raise KeyError
    log.finish()
    assert _rows(log, clock) == [(RECOMPUTE, 0, 0.0, 1.0), (BACKWARD, 0, 1.0, 3.0)]


def test_a_silent_log_lets_everything_pass() -> None:
    log: EventLog = SILENT
    log.begin(FORWARD, 0)
    with log.again(RECOMPUTE) as turn_to:
        turn_to(1)
    with contextlib.suppress(KeyError), log.event(OFFLOAD, Stream.D2H):
        raise KeyError


def test_the_curve_has_peaks_between_moments() -> None:
    clock = Ticks()
    log = RecordedLog(clock)
    log.begin(FORWARD, 0)
    log.begin(BACKWARD, 0)
    log.finish()
    events = timed_instructions(log, clock)
    samples = memory_samples(events, [0.0, 1.0, 2.0], [(5, 5), (7, 9), (5, 8)])
    rows = [(s.time_s, s.level_bytes, s.instruction) for s in samples]
    assert rows == [(0.0, 9, 0), (1.0, 7, 0), (1.0, 8, 1), (2.0, 5, 1)]
    assert memory_samples(events, [0.0, 1.0, 2.0], []) == ()
