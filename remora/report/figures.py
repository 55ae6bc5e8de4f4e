"""The pictures of the HTML report, as the plain data that Plotly draws."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

from remora.report.arrangement import pipeline_picture
from remora.report.boxes import Box, boxes_by_row, labels_are_units
from remora.report.colours import (
    BUDGET_COLOUR,
    INSTRUCTION_STYLES,
    MEMORY_COLOURS,
    Style,
    text_colour,
)
from remora.report.curves import kinds_held, top_of_scale, whole_step
from remora.report.rows import StreamRow, layout_height, stream_rows
from remora.report.wording import (
    bytes_scale,
    bytes_text,
    duration_text,
    kind_text,
    time_scale,
)
from remora.schedule.program import InstructionKind, Stream
from remora.simulator.timeline import Timeline

__all__ = ["MAX_SINGLE_INSTRUCTIONS", "memory_figure", "timeline_figure"]

MAX_SINGLE_INSTRUCTIONS = 20_000
"""A run of more instructions is drawn task by task, so that the page stays small."""

_MAX_NUMBERED_BOXES = 2_000
_SLOTS = 400
_ROW_PIXELS = 34
_TOOLS_PIXELS = 30
"""Height of Plotly's buttons in the upper right corner; the legend stays below them."""
_FONT = {"family": "system-ui, sans-serif", "size": 13}

_PlacedBox = tuple[StreamRow, Box]


def timeline_figure(timeline: Timeline, unit_names: Sequence[str]) -> dict[str, Any]:
    """Draw a row for what every rank computes, and thin rows for copies and messages under it.

    Args:
        timeline: simulated or measured run.
        unit_names: name of every unit; escaped here.  # [num_units]

    Returns:
        ``{"data": ..., "layout": ...}`` for Plotly.
    """
    rows, boxes = _placed_boxes(timeline)
    names = [escape(name) for name in unit_names]
    factor, unit = time_scale(timeline.step_time_s)
    by_kind: dict[InstructionKind, list[_PlacedBox]] = defaultdict(list)
    for row, box in boxes:
        by_kind[box.kind].append((row, box))
    numbered, by_unit = len(boxes) <= _MAX_NUMBERED_BOXES, labels_are_units(timeline)
    traces = [
        _bars(kind, by_kind[kind], names, factor, outlined=numbered)
        | (_numbers(INSTRUCTION_STYLES[kind], by_kind[kind], by_unit) if numbered else {})
        for kind in InstructionKind
        if by_kind[kind]
    ]
    height = layout_height(rows)
    layout = {
        "font": _FONT,
        "margin": {"l": 80, "r": 20, "t": _TOOLS_PIXELS + 25, "b": 50},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        "barmode": "overlay",
        "uniformtext": {"mode": "hide", "minsize": 9},
        "height": 110 + _TOOLS_PIXELS + _ROW_PIXELS * height,
        "xaxis": {"title": {"text": unit}, "range": [0, timeline.step_time_s * factor]},
        "yaxis": _rank_axis(rows, height),
    }
    return {"data": traces, "layout": layout}


def memory_figure(timeline: Timeline, rank: int, budget_bytes: int) -> dict[str, Any]:
    """Draw the memory of one rank over time, stacked by kind, under the budget.

    Args:
        timeline: simulated or measured run; all its ranks get the same scale.
        rank: whose memory.
        budget_bytes: drawn as a dashed line.
    """
    factor, time_unit = time_scale(timeline.step_time_s)
    top_bytes, in_sight = top_of_scale(timeline.max_peak_bytes, budget_bytes)
    size, unit = bytes_scale(top_bytes)
    samples = whole_step(timeline.memory[rank], timeline.step_time_s, _SLOTS)
    alone = len(timeline.memory) == 1
    times = [_short(sample.time_s * factor) for sample in samples]
    traces: list[dict[str, Any]] = []
    for kind in kinds_held(samples):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "stackgroup": "memory",
                "name": kind_text(kind),
                "x": times,
                "y": [_short(sample.by_kind.get(kind, 0) / size) for sample in samples],
                "line": {"shape": "hv", "width": 0, "color": MEMORY_COLOURS[kind]},
                "fillcolor": MEMORY_COLOURS[kind],
                "hovertemplate": f"%{{y:.3f}} {unit}",
            }
        )
    traces.append(_budget_line(timeline.step_time_s * factor, budget_bytes, size, in_sight))
    layout = {
        "font": _FONT,
        "margin": {"l": 60, "r": 20, "t": _TOOLS_PIXELS + (25 if alone else 45), "b": 45},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        "height": 420 if alone else 320,
        "hovermode": "x unified",
        "xaxis": {"title": {"text": time_unit}, "range": [0, timeline.step_time_s * factor]},
        "yaxis": {"title": {"text": unit}, "range": [0, top_bytes / size]},
    }
    return {"data": traces, "layout": layout}


def _placed_boxes(timeline: Timeline) -> tuple[list[StreamRow], list[_PlacedBox]]:
    if len(timeline.events) > MAX_SINGLE_INSTRUCTIONS:
        picture = pipeline_picture(timeline)
        place = {(row.rank, row.stream): row for row in picture.rows}
        boxes = [
            (place[rank, Stream.COMPUTE], box)
            for rank, tasks in picture.tasks.items()
            for task in tasks
            for box in task.boxes
        ]
        boxes += [(place[row], box) for row, of_row in picture.beside.items() for box in of_row]
        return picture.rows, boxes
    by_row = boxes_by_row(timeline)
    rows = stream_rows(len(timeline.peak_bytes), by_row)
    place = {(row.rank, row.stream): row for row in rows}
    return rows, [(place[row], box) for row, of_row in by_row.items() for box in of_row]


def _bars(
    kind: InstructionKind,
    boxes: Sequence[_PlacedBox],
    names: Sequence[str],
    factor: float,
    outlined: bool,
) -> dict[str, Any]:
    style = INSTRUCTION_STYLES[kind]
    return {
        "type": "bar",
        "orientation": "h",
        "name": kind_text(kind),
        "y": [_short(row.centre) for row, _ in boxes],
        "width": [row.height for row, _ in boxes],
        "base": [_short(box.start_s * factor) for _, box in boxes],
        "x": [_short(box.duration_s * factor) for _, box in boxes],
        "hovertext": [_hover(box, names) for _, box in boxes],
        "hovertemplate": f"{kind_text(kind)}%{{hovertext}}<extra></extra>",
        "marker": {
            "color": style.colour,
            # Outlines of very many boxes would hide what they surround.
            "line": {"color": "white", "width": 0.5 if outlined else 0},
            "pattern": {"shape": "/" if style.hatched else "", "fgcolor": "white", "size": 4},
        },
    }


def _numbers(style: Style, boxes: Sequence[_PlacedBox], by_unit: bool) -> dict[str, Any]:
    """Numbers inside the boxes of compute rows; Plotly hides those that have no room."""
    numbers = [
        (box.first_unit if by_unit else box.micro_batch) if row.stream is Stream.COMPUTE else -1
        for row, box in boxes
    ]
    return {
        "text": [str(number) if number >= 0 else "" for number in numbers],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"color": text_colour(style.colour), "size": 10},
    }


def _hover(box: Box, names: Sequence[str]) -> str:
    lines = []
    if box.first_unit >= 0:
        unit = f" {names[box.first_unit]}"
        if box.last_unit != box.first_unit:
            unit += f" to {names[box.last_unit]}"
        lines.append(unit)
    else:
        lines.append("")
    if box.micro_batch >= 0:
        lines.append(f"stage {box.stage}, micro-batch {box.micro_batch}")
    many = f" in {box.count} instructions" if box.count > 1 else ""
    lines.append(f"{duration_text(box.duration_s)}{many}")
    return "<br>".join(lines)


def _rank_axis(rows: Sequence[StreamRow], height: float) -> dict[str, Any]:
    labels = [
        row.label
        if row.stream is Stream.COMPUTE
        else f'<span style="font-size:9px">{row.label}</span>'
        for row in rows
    ]
    return {
        "tickmode": "array",
        "tickvals": [_short(row.centre) for row in rows],
        "ticktext": labels,
        "range": [height, 0],
        "ticks": "outside",
        "tickcolor": "white",
        "showgrid": False,
        "zeroline": False,
    }


def _budget_line(end: float, budget_bytes: int, size: float, in_sight: bool) -> dict[str, Any]:
    above = "" if in_sight else " (above the picture)"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"budget {bytes_text(budget_bytes)}{above}",
        "x": [0.0, end],
        "y": [budget_bytes / size] * 2,
        "line": {"dash": "dash", "width": 2, "color": BUDGET_COLOUR},
        "hoverinfo": "skip",
    }


def _short(value: float) -> float:
    """Seven digits are more than a screen shows and keep the page small."""
    return float(f"{value:.7g}")
