"""A timeline in the Chrome trace format, which ui.perfetto.dev opens.

Format: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from remora.schedule.program import Stream
from remora.simulator.timeline import MemorySample, TimedInstruction, Timeline

__all__ = ["timeline_to_perfetto"]

_STREAMS = tuple(Stream)


def timeline_to_perfetto(timeline: Timeline, unit_names: Sequence[str]) -> dict[str, Any]:
    """Convert a timeline; ranks become processes, streams become threads.

    Args:
        timeline: simulated or measured run.
        unit_names: name of every unit.  # [num_units]

    Returns:
        A mapping to be written as JSON; times in microseconds, memory as counters in MiB.
    """
    events = list(_names(timeline))
    events += [_slice(event, unit_names) for event in timeline.events]
    for rank, samples in enumerate(timeline.memory):
        events += [_counter(rank, sample) for sample in samples]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _names(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for rank in range(len(timeline.peak_bytes)):
        yield _name("process_name", rank, 0, f"rank {rank}")
        for thread, stream in enumerate(_STREAMS):
            yield _name("thread_name", rank, thread, str(stream))


def _name(kind: str, rank: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": rank, "tid": thread, "args": {"name": name}}


def _slice(event: TimedInstruction, unit_names: Sequence[str]) -> dict[str, Any]:
    instruction = event.instruction
    unit = unit_names[instruction.unit] if instruction.unit >= 0 else ""
    return {
        "name": f"{instruction.kind} {unit}".strip(),
        "cat": str(instruction.kind),
        "ph": "X",
        "ts": event.start_s * 1e6,
        "dur": (event.end_s - event.start_s) * 1e6,
        "pid": instruction.rank,
        "tid": _STREAMS.index(instruction.stream),
        "args": {"unit": instruction.unit, "micro_batch": instruction.micro_batch},
    }


def _counter(rank: int, sample: MemorySample) -> dict[str, Any]:
    args = {str(kind): num_bytes / 2**20 for kind, num_bytes in sample.by_kind.items()}
    return {"name": "memory MiB", "ph": "C", "ts": sample.time_s * 1e6, "pid": rank, "args": args}
