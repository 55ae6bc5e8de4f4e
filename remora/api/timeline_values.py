"""A measured timeline as plain values, on its way from the process that ran it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remora.schedule.program import Instruction, InstructionKind, MemoryKind, Stream
from remora.simulator.timeline import MemorySample, TimedInstruction, Timeline

__all__ = ["timeline_from_values", "timeline_to_values"]


def timeline_to_values(timeline: Timeline) -> dict[str, Any]:
    """Return a timeline as values that JSON holds; what instructions do to buffers is left out."""
    return {
        "step_time_s": timeline.step_time_s,
        "peak_bytes": timeline.peak_bytes,
        "host_peak_bytes": timeline.host_peak_bytes,
        "peak_breakdown": dict(timeline.peak_breakdown),
        "events": [_event_values(event) for event in timeline.events],
        "memory": [
            [[s.time_s, s.level_bytes, dict(s.by_kind), s.instruction] for s in samples]
            for samples in timeline.memory
        ],
    }


def timeline_from_values(values: Mapping[str, Any]) -> Timeline:
    """Read what :func:`timeline_to_values` returned."""
    return Timeline(
        step_time_s=values["step_time_s"],
        peak_bytes=tuple(values["peak_bytes"]),
        host_peak_bytes=tuple(values["host_peak_bytes"]),
        peak_breakdown=_by_kind(values["peak_breakdown"]),
        events=tuple(_event(row) for row in values["events"]),
        memory=tuple(
            tuple(
                MemorySample(time_s, level, _by_kind(kinds), n) for time_s, level, kinds, n in row
            )
            for row in values["memory"]
        ),
    )


def _event_values(event: TimedInstruction) -> list[Any]:
    one = event.instruction
    labels = [one.kind, one.rank, one.stream, one.unit, one.micro_batch, one.stage]
    return [*labels, event.start_s, event.end_s]


def _event(row: Sequence[Any]) -> TimedInstruction:
    kind, rank, stream, unit, micro_batch, stage, start_s, end_s = row
    instruction = Instruction(
        InstructionKind(kind),
        rank,
        Stream(stream),
        unit,
        micro_batch,
        end_s - start_s,
        stage=stage,
    )
    return TimedInstruction(instruction, start_s, end_s)


def _by_kind(values: Mapping[str, int]) -> dict[MemoryKind, int]:
    return {MemoryKind(kind): num_bytes for kind, num_bytes in values.items()}
