"""A run arranged for a picture: rows, tasks and the boxes beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from remora.report.boxes import (
    Box,
    Task,
    boxes_by_row,
    joined,
    labels_are_units,
    regrouped,
    tasks_of,
)
from remora.report.labels import SIZES_POINTS, text_points
from remora.report.rows import StreamRow, layout_height, stream_rows
from remora.schedule.program import Stream
from remora.simulator.timeline import Timeline

__all__ = ["PipelinePicture", "pipeline_picture"]

_MAX_BOXES_PER_ROW = 300


@dataclass(frozen=True)
class PipelinePicture:
    """A run, arranged in rows.

    Attributes:
        timeline: the run.
        rows: from top to bottom.
        tasks: tasks of every compute row, by rank.
        beside: boxes of the thin rows, by rank and stream.
        chunk_of_stage: 0 for the first stage of its rank, 1 for the next, and so on, by (rank,
            stage).
        by_unit: labels are units, because there is one micro-batch only.
    """

    timeline: Timeline
    rows: list[StreamRow]
    tasks: Mapping[int, list[Task]]
    beside: Mapping[tuple[int, Stream], list[Box]]
    chunk_of_stage: Mapping[tuple[int, int], int]
    by_unit: bool

    @property
    def height(self) -> float:
        """In heights of a compute row."""
        return layout_height(self.rows)

    @property
    def wanted_points(self) -> float:
        """Width of the rows at which nine of ten tasks have room for two characters."""
        lengths = sorted(
            task.end_s - task.start_s
            for tasks in self.tasks.values()
            for task in tasks
            if task.boxes[0].micro_batch >= 0
        )
        short_s = lengths[len(lengths) // 10] if lengths else 0.0
        room = text_points(2, SIZES_POINTS[0])
        return room * self.timeline.step_time_s / short_s if short_s > 0 else 0.0


def pipeline_picture(timeline: Timeline) -> PipelinePicture:
    """Arrange a run; where a rank has too many boxes, those of a task are drawn by kind."""
    by_row = boxes_by_row(timeline)
    step_time_s = timeline.step_time_s
    compute = {rank: row for (rank, stream), row in by_row.items() if stream is Stream.COMPUTE}
    by_unit = labels_are_units(timeline) and all(
        len(row) <= _MAX_BOXES_PER_ROW for row in compute.values()
    )
    if not by_unit:
        compute = {rank: joined(row, step_time_s) for rank, row in compute.items()}
    tasks = {rank: tasks_of(row, step_time_s, by_unit) for rank, row in compute.items()}
    if any(len(row) > _MAX_BOXES_PER_ROW for row in compute.values()):
        tasks = {rank: [regrouped(task) for task in of_rank] for rank, of_rank in tasks.items()}
    beside = {
        row: joined(boxes, step_time_s)
        for row, boxes in by_row.items()
        if row[1] is not Stream.COMPUTE
    }
    return PipelinePicture(
        timeline=timeline,
        rows=stream_rows(len(timeline.peak_bytes), by_row),
        tasks=tasks,
        beside=beside,
        chunk_of_stage=_chunks(timeline),
        by_unit=by_unit,
    )


def _chunks(timeline: Timeline) -> dict[tuple[int, int], int]:
    stages: dict[int, set[int]] = defaultdict(set)
    for event in timeline.events:
        if event.instruction.stage >= 0:
            stages[event.instruction.rank].add(event.instruction.stage)
    return {
        (rank, stage): chunk
        for rank, of_rank in stages.items()
        for chunk, stage in enumerate(sorted(of_rank))
    }
