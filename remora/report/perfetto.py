"""A timeline in the Chrome trace format, which ui.perfetto.dev opens.

Format: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remora.report.curves import kinds_held
from remora.report.wording import kind_text
from remora.schedule.program import InstructionKind, MemoryKind, Stream
from remora.simulator.timeline import MemorySample, TimedInstruction, Timeline

__all__ = ["timeline_to_perfetto"]

_STREAMS = tuple(Stream)
_MIB = 2**20


def timeline_to_perfetto(
    timeline: Timeline, unit_names: Sequence[str], measured: Timeline | None = None
) -> dict[str, Any]:
    """Convert a timeline; ranks become processes, the streams they use become threads.

    Slices of a thread never overlap: times are whole nanoseconds. Every rank gets a counter of
    its memory, stacked by kind, one of the total, and one of its host memory if it moves any.
    Arrows lead from a message's sending to its receiving.

    Args:
        timeline: simulated or measured run.
        unit_names: name of every unit.  # [num_units]
        measured: of the same schedule, to be shown as more processes under the others, where
            ``timeline`` is simulated.

    Returns:
        A mapping to be written as JSON; times in microseconds, memory in MiB.
    """
    if measured is None:
        events = _processes(timeline, unit_names, "")
    else:
        events = _processes(timeline, unit_names, ", simulated")
        for event in _processes(measured, unit_names, ", measured"):
            events.append(event | {"pid": event["pid"] + len(timeline.peak_bytes)})
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _processes(timeline: Timeline, unit_names: Sequence[str], kind: str) -> list[dict[str, Any]]:
    events = list(_names(timeline, kind))
    events += [_slice(event, unit_names) for event in timeline.events]
    events += _arrows(timeline.events)
    for rank, samples in enumerate(timeline.memory):
        events += _memory(rank, samples)
        events += _host_memory(timeline, rank)
    return events


def _names(timeline: Timeline, kind: str) -> Iterator[dict[str, Any]]:
    used = {(e.instruction.rank, e.instruction.stream) for e in timeline.events}
    for rank in range(len(timeline.peak_bytes)):
        yield _metadata("process_name", rank, 0, {"name": f"rank {rank}{kind}"})
        yield _metadata("process_sort_index", rank, 0, {"sort_index": rank})
        for thread, stream in enumerate(_STREAMS):
            if (rank, stream) in used:
                yield _metadata("thread_name", rank, thread, {"name": str(stream)})
                yield _metadata("thread_sort_index", rank, thread, {"sort_index": thread})


def _metadata(name: str, rank: int, thread: int, args: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "ts": 0, "pid": rank, "tid": thread, "args": args}


def _slice(event: TimedInstruction, unit_names: Sequence[str]) -> dict[str, Any]:
    instruction = event.instruction
    start_ns, end_ns = _nanoseconds(event.start_s), _nanoseconds(event.end_s)
    args: dict[str, Any] = {}
    name = kind_text(instruction.kind)
    if instruction.unit >= 0:
        args |= {"unit": instruction.unit, "unit_name": unit_names[instruction.unit]}
        name += f" {unit_names[instruction.unit]}".rstrip()
    if instruction.micro_batch >= 0:
        args["micro_batch"] = instruction.micro_batch
    if instruction.stage >= 0:
        args["stage"] = instruction.stage
    return {
        "name": name,
        "cat": str(instruction.kind),
        "ph": "X",
        "ts": start_ns / 1e3,
        "dur": (end_ns - start_ns) / 1e3,
        **_place(event),
        "args": args,
    }


def _arrows(events: Sequence[TimedInstruction]) -> Iterator[dict[str, Any]]:
    """One pair of flow events for every message that another rank waits for."""
    reader: dict[int, TimedInstruction] = {}
    for event in events:
        for index in event.instruction.waits:
            reader.setdefault(index, event)
    number = 0
    for position, target in enumerate(events):
        for source in (events[index] for index in target.instruction.waits):
            if _is_message(source, target):
                number += 1
                # A receive that takes no time cannot hold an arrow's end; who waits for it can.
                empty = target.end_s <= target.start_s
                end = reader.get(position, target) if empty else target
                yield _arrow_end(number, "s", source)
                # It ends in the slice that encloses its time, not in the next one.
                yield _arrow_end(number, "f", end) | {"bp": "e"}


def _arrow_end(number: int, phase: str, event: TimedInstruction) -> dict[str, Any]:
    ts = _nanoseconds(event.start_s) / 1e3
    flow = {"name": "message", "cat": "message", "id": number, "ph": phase, "ts": ts}
    return flow | _place(event)


def _is_message(source: TimedInstruction, target: TimedInstruction) -> bool:
    crosses = source.instruction.rank != target.instruction.rank
    sends = source.instruction.kind is InstructionKind.SEND
    return crosses and (sends or target.instruction.kind is InstructionKind.RECEIVE)


def _memory(rank: int, samples: Sequence[MemorySample]) -> Iterator[dict[str, Any]]:
    # A kind that is missing from a sample would keep its last value in the viewer.
    kinds = kinds_held(samples)
    before: tuple[Mapping[MemoryKind, int], int] | None = None
    for sample in samples:
        if (sample.by_kind, sample.level_bytes) != before:
            levels = {kind_text(kind): sample.by_kind.get(kind, 0) / _MIB for kind in kinds}
            # A measured run does not tell kinds apart.
            if levels:
                yield _counter("memory by kind (MiB)", rank, sample.time_s, levels)
            total = {"total": sample.level_bytes / _MIB}
            yield _counter("memory total (MiB)", rank, sample.time_s, total)
        before = (sample.by_kind, sample.level_bytes)


def _host_memory(timeline: Timeline, rank: int) -> Iterator[dict[str, Any]]:
    """Pinned host memory, which changes where copies end."""
    events = [event for event in timeline.events if event.instruction.rank == rank]
    moves = [event for event in events if event.instruction.host_bytes]
    level = _resident_host_bytes(moves, timeline.host_peak_bytes[rank])
    if not moves and not level:
        return
    yield _counter("host memory (MiB)", rank, 0.0, {"pinned": level / _MIB})
    for event in sorted(moves, key=lambda event: event.end_s):
        level += event.instruction.host_bytes
        yield _counter("host memory (MiB)", rank, event.end_s, {"pinned": level / _MIB})


def _resident_host_bytes(moves: Sequence[TimedInstruction], peak_bytes: int) -> int:
    """What lies on the host for the whole step: the peak less the highest sum of moves."""
    level = highest = 0
    for event in moves:
        level += event.instruction.host_bytes
        highest = max(highest, level)
    return max(0, peak_bytes - highest)


def _counter(name: str, rank: int, time_s: float, values: Mapping[str, float]) -> dict[str, Any]:
    ts = _nanoseconds(time_s) / 1e3
    return {"name": name, "ph": "C", "ts": ts, "pid": rank, "tid": 0, "args": dict(values)}


def _place(event: TimedInstruction) -> dict[str, int]:
    instruction = event.instruction
    return {"pid": instruction.rank, "tid": _STREAMS.index(instruction.stream)}


def _nanoseconds(time_s: float) -> int:
    return round(time_s * 1e9)
