"""The pipeline picture: what every rank computes, and the copies and messages beside it.

Letters: k boxes of one kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from remora.report.arrangement import PipelinePicture
from remora.report.boxes import Box, Task
from remora.report.colours import IDLE_COLOUR, INSTRUCTION_STYLES
from remora.report.labels import LETTERS, Labels, task_labels
from remora.report.rows import StreamRow
from remora.report.wording import kind_text, percent_text, time_scale
from remora.schedule.program import InstructionKind, Stream
from remora.simulator.shares import bubble_shares

__all__ = ["draw_pipeline", "legend_handles"]

_OUTLINE_MIN_POINTS = 2.5

_Corners = tuple[tuple[float, float], ...]


def draw_pipeline(axes: Any, picture: PipelinePicture, width_points: float) -> None:
    """Draw a picture.

    Args:
        axes: Matplotlib axes.
        picture: the arranged run.
        width_points: width of the axes, which decides what labels fit.
    """
    factor, unit = time_scale(picture.timeline.step_time_s)
    axes.set_xlim(0, picture.timeline.step_time_s * factor or 1.0)
    axes.set_ylim(picture.height, 0)
    _draw_idle(axes, picture, factor)
    compute_rows = {row.rank: row for row in picture.rows if row.stream is Stream.COMPUTE}
    every_row = {(row.rank, row.stream): row for row in picture.rows}
    _draw_boxes(axes, _compute_boxes(picture, compute_rows), factor, 0.25)
    beside = [(every_row[row], box) for row, boxes in picture.beside.items() for box in boxes]
    _draw_boxes(axes, beside, factor, 0.7)
    points_per_s = width_points / (picture.timeline.step_time_s or 1.0)
    for rank, tasks in picture.tasks.items():
        _draw_outlines(axes, compute_rows[rank], tasks, factor, points_per_s)
    _draw_feet(axes, picture, compute_rows, factor)
    labels = _draw_labels(axes, picture, compute_rows, factor, points_per_s)
    axes.set_xlabel(f"{unit}{labels}", fontsize=8)
    _name_rows(axes, picture)


def legend_handles(picture: PipelinePicture) -> list[Any]:
    """Return one patch for every kind that occurs, in the order of the palette."""
    from matplotlib.patches import Patch

    present = {event.instruction.kind for event in picture.timeline.events}
    handles = []
    for kind, style in INSTRUCTION_STYLES.items():
        if kind in present:
            hatch = "////" if style.hatched else None
            handles.append(
                Patch(facecolor=style.colour, hatch=hatch, label=kind_text(kind), edgecolor="white")
            )
    if any(picture.chunk_of_stage.values()):
        handles.append(Patch(facecolor="#444444", label="foot: a later stage of the rank"))
    return handles


def _compute_boxes(
    picture: PipelinePicture, rows: Mapping[int, StreamRow]
) -> list[tuple[StreamRow, Box]]:
    return [
        (rows[rank], box)
        for rank, tasks in picture.tasks.items()
        for task in tasks
        for box in task.boxes
    ]


def _draw_idle(axes: Any, picture: PipelinePicture, factor: float) -> None:
    rows = [row for row in picture.rows if row.stream is Stream.COMPUTE]
    end = picture.timeline.step_time_s * factor
    _polygons(axes, [_corners(r, 0.0, end) for r in rows], facecolor=IDLE_COLOUR, linewidth=0)


def _draw_boxes(
    axes: Any, boxes: Iterable[tuple[StreamRow, Box]], factor: float, edge_points: float
) -> None:
    by_kind: dict[InstructionKind, list[_Corners]] = defaultdict(list)
    for row, box in boxes:
        by_kind[box.kind].append(_corners(row, box.start_s * factor, box.end_s * factor))
    for kind, corners in by_kind.items():
        style = INSTRUCTION_STYLES[kind]
        # An edge of its own colour keeps the shortest box visible.
        collection = _polygons(
            axes, corners, facecolor=style.colour, edgecolor=style.colour, linewidth=edge_points
        )
        if style.hatched:
            collection.set_hatch("//////")
            collection.set_hatchcolor("#FFFFFF")


def _draw_outlines(
    axes: Any, row: StreamRow, tasks: Sequence[Task], factor: float, points_per_s: float
) -> None:
    corners = [
        _corners(row, task.start_s * factor, task.end_s * factor)
        for task in tasks
        if (task.end_s - task.start_s) * points_per_s >= _OUTLINE_MIN_POINTS
    ]
    _polygons(axes, corners, facecolor="none", edgecolor="white", linewidth=0.7)


def _draw_feet(
    axes: Any, picture: PipelinePicture, rows: Mapping[int, StreamRow], factor: float
) -> None:
    """Underline the tasks of a rank's later stages: the later, the higher."""
    last = max(picture.chunk_of_stage.values(), default=0)
    corners = []
    for rank, tasks in picture.tasks.items():
        for task in tasks:
            chunk = picture.chunk_of_stage.get((rank, task.boxes[0].stage), 0)
            if chunk:
                row = rows[rank]
                bottom, foot = row.top + row.height, 0.22 * row.height * chunk / last
                start, end = task.start_s * factor, task.end_s * factor
                corners.append(_rectangle(start, end, bottom - foot, bottom))
    _polygons(axes, corners, facecolor="#222222", linewidth=0, alpha=0.75)


def _draw_labels(
    axes: Any,
    picture: PipelinePicture,
    rows: Mapping[int, StreamRow],
    factor: float,
    points_per_s: float,
) -> str:
    """Write the labels that have room; returns what they mean."""
    ranks = [rank for rank, tasks in picture.tasks.items() for _ in tasks]
    tasks = [task for of_rank in picture.tasks.values() for task in of_rank]
    found = task_labels(tasks, picture.by_unit, points_per_s)
    plate = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    for label in found.labels:
        axes.text(
            label.centre_s * factor,
            rows[ranks[label.task]].centre,
            label.text,
            ha="center",
            va="center",
            fontsize=found.size_points,
            color=label.colour,
            bbox=plate if label.on_plate else None,
            in_layout=False,
        )
    return _meaning(found, picture)


def _meaning(found: Labels, picture: PipelinePicture) -> str:
    if not found.labels:
        return ""
    kinds = {e.instruction.kind for e in picture.timeline.events}
    words = [
        f"{letter} {kind_text(kind)}"
        for kind, letter in LETTERS.items()
        if found.has_letters and kind in kinds
    ]
    what = "unit" if picture.by_unit else "micro-batch"
    return "    (" + "; ".join([f"number in a box: {what}", *words]) + ")"


def _name_rows(axes: Any, picture: PipelinePicture) -> None:
    rows = picture.rows
    axes.set_yticks([row.centre for row in rows], [row.label for row in rows])
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set_fontsize(8.5 if row.stream is Stream.COMPUTE else 5.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    shares = bubble_shares(picture.timeline)
    for row in rows:
        if row.stream is Stream.COMPUTE:
            axes.annotate(
                f"idle {percent_text(shares[row.rank])}",
                (1, row.centre),
                xycoords=("axes fraction", "data"),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                annotation_clip=False,
            )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _corners(row: StreamRow, start: float, end: float) -> _Corners:
    return _rectangle(start, end, row.top, row.top + row.height)


def _rectangle(start: float, end: float, top: float, bottom: float) -> _Corners:
    return ((start, top), (end, top), (end, bottom), (start, bottom))


def _polygons(axes: Any, corners: Sequence[_Corners], **style: Any) -> Any:
    """Add all boxes of one look as one artist.  # corners: [k, 4, 2]."""
    from matplotlib.collections import PolyCollection

    collection = PolyCollection(list(corners), **style)
    axes.add_collection(collection, autolim=False)
    return collection
