"""The boxes of a run as the compact lists that the page draws its timeline from.

Letters: n boxes, r rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remora.report.arrangement import pipeline_picture
from remora.report.boxes import Box, boxes_by_row, labels_are_units
from remora.report.colours import INSTRUCTION_STYLES
from remora.report.rows import StreamRow, stream_rows
from remora.report.wording import kind_text, time_scale
from remora.schedule.program import InstructionKind, Stream
from remora.simulator.shares import bubble_shares
from remora.simulator.timeline import Timeline

__all__ = ["MAX_SINGLE_INSTRUCTIONS", "gantt_data", "short"]

MAX_SINGLE_INSTRUCTIONS = 4_000
"""A run of more instructions is drawn task by task, so that the page stays small and quick."""

_PlacedBox = tuple[int, Box]
"""Index of its row, and the box."""

_KINDS = tuple(InstructionKind)


def gantt_data(predicted: Timeline, measured: Timeline | None = None) -> dict[str, Any]:
    """Collect what every rank computes, copies and sends.

    Args:
        predicted: simulated run.
        measured: real run of the same schedule, drawn under the predicted one.

    Returns:
        ``lanes`` (one per run), the ``kinds`` that occur, and the scale of time.
    """
    runs = [predicted] if measured is None else [predicted, measured]
    factor, unit = time_scale(max(run.step_time_s for run in runs))
    present = {event.instruction.kind for run in runs for event in run.events}
    return {
        "unit": unit,
        "number": "unit" if labels_are_units(predicted) else "micro-batch",
        "kinds": [_kind(kind) if kind in present else None for kind in _KINDS],
        "lanes": [_lane(run, factor) for run in runs],
    }


def _kind(kind: InstructionKind) -> dict[str, Any]:
    style = INSTRUCTION_STYLES[kind]
    return {
        "id": kind.value,
        "name": kind_text(kind),
        "colour": style.colour,
        "hatched": style.hatched,
    }


def _lane(run: Timeline, factor: float) -> dict[str, Any]:
    rows, placed = _placed_boxes(run)
    by_unit = labels_are_units(run)
    idle = bubble_shares(run)
    boxes = [box for _, box in placed]
    return {
        "end": short(run.step_time_s * factor),
        "rows": [_row(row, len(run.peak_bytes), idle) for row in rows],
        "row": [row for row, _ in placed],
        "kind": [_KINDS.index(box.kind) for box in boxes],
        "start": [short(box.start_s * factor) for box in boxes],
        "length": [short(box.duration_s * factor) for box in boxes],
        "first": [box.first_unit for box in boxes],
        "last": [box.last_unit for box in boxes],
        "stage": [box.stage for box in boxes],
        "batch": [box.micro_batch for box in boxes],
        "count": [box.count for box in boxes],
        "number": [box.first_unit if by_unit else box.micro_batch for box in boxes],
    }


def _row(row: StreamRow, num_ranks: int, idle: tuple[float, ...]) -> dict[str, Any]:
    compute = row.stream is Stream.COMPUTE
    label = "compute" if compute and num_ranks == 1 else row.label
    return {
        "rank": row.rank,
        "compute": compute,
        "label": label,
        "height": row.height,
        "idle": round(100 * idle[row.rank], 1) if compute else None,
    }


def _placed_boxes(run: Timeline) -> tuple[list[StreamRow], list[_PlacedBox]]:
    """Rows from top to bottom, and their boxes in order of time.  # [r], [n]."""
    if len(run.events) > MAX_SINGLE_INSTRUCTIONS:
        picture = pipeline_picture(run)
        rows = picture.rows
        by_row = {
            (rank, Stream.COMPUTE): [box for task in tasks for box in task.boxes]
            for rank, tasks in picture.tasks.items()
        } | dict(picture.beside)
    else:
        by_row = boxes_by_row(run)
        rows = stream_rows(len(run.peak_bytes), by_row)
    place: Mapping[tuple[int, Stream], int] = {
        (row.rank, row.stream): index for index, row in enumerate(rows)
    }
    return rows, [(place[row], box) for row, boxes in by_row.items() for box in boxes]


def short(value: float) -> float:
    """Six digits are more than a screen shows and keep the page small."""
    return float(f"{value:.6g}")
