"""From what a log noted to a timeline in the simulator's format."""

from __future__ import annotations

from collections.abc import Sequence

from remora.executor.timeline.clocks import Clock, Mark
from remora.executor.timeline.event_log import EventKey, RecordedLog, Span
from remora.schedule.program import Instruction, InstructionKind, Stream
from remora.simulator.timeline import TimedInstruction

__all__ = ["timed_instructions"]

_Timed = tuple[EventKey, float, float]


def timed_instructions(log: RecordedLog, clock: Clock, rank: int = 0) -> list[TimedInstruction]:
    """Return what a log noted, as instructions in order of their start.

    What a unit is interrupted for, to make something again or to fetch it, stands before it, and
    what it sends away after it, as programs have it. Copies of one unit, one after the other on the
    same stream, are one.

    Args:
        log: finished.
        clock: of the log, settled.
        rank: that was recorded.
    """
    base = log.marks[0]
    spans = [span for span in log.spans if span is not None]
    timed = _compute(log.spans, base, clock)
    copies = [span for span in spans if span.key.stream is not Stream.COMPUTE]
    timed = _joined([*timed, *(_timed(span, base, clock) for span in copies)])
    timed.sort(key=lambda event: event[1])
    return [
        TimedInstruction(
            Instruction(
                key.kind,
                rank,
                key.stream,
                key.unit,
                key.micro_batch,
                end_s - start_s,
                stage=key.stage,
            ),
            start_s,
            end_s,
        )
        for key, start_s, end_s in timed
    ]


def _compute(spans: Sequence[Span | None], base: Mark, clock: Clock) -> list[_Timed]:
    """Spans of the compute stream, none inside of another."""
    inner: dict[int, list[_Timed]] = {}
    for span in spans:
        if span is not None and span.inside >= 0:
            inner.setdefault(span.inside, []).append(_timed(span, base, clock))
    timed: list[_Timed] = []
    for index, span in enumerate(spans):
        if span is not None and span.key.stream is Stream.COMPUTE and span.inside < 0:
            timed += _unfolded(_timed(span, base, clock), inner.get(index, []))
    return timed


def _unfolded(outer: _Timed, inner: Sequence[_Timed]) -> list[_Timed]:
    """Put what interrupted a span before it, or, where it sends something away, after it."""
    key, start_s, end_s = outer
    after = [event for event in inner if event[0].kind is InstructionKind.OFFLOAD]
    before = [event for event in inner if event[0].kind is not InstructionKind.OFFLOAD]
    lengths = [(event_key, e - s) for event_key, s, e in before]
    lengths.append((key, end_s - start_s - sum(e - s for _, s, e in inner)))
    lengths += [(event_key, e - s) for event_key, s, e in after]
    timed: list[_Timed] = []
    for event_key, length_s in lengths:
        timed.append((event_key, start_s, start_s + length_s))
        start_s += length_s
    return timed


def _joined(timed: Sequence[_Timed]) -> list[_Timed]:
    """Join neighbours on a stream that are parts of one instruction."""
    joined: list[_Timed] = []
    latest: dict[Stream, int] = {}
    for key, start_s, end_s in timed:
        index = latest.get(key.stream)
        if index is not None and joined[index][0] == key:
            joined[index] = (key, joined[index][1], end_s)
            continue
        latest[key.stream] = len(joined)
        joined.append((key, start_s, end_s))
    return joined


def _timed(span: Span, base: Mark, clock: Clock) -> _Timed:
    return span.key, clock.since_s(base, span.start), clock.since_s(base, span.end)
