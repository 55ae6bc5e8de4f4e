"""Pictures of runs as files for papers: pipeline, memory, and both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from remora.report.arrangement import PipelinePicture, pipeline_picture
from remora.report.curves import fullest_ranks
from remora.report.memory_picture import draw_memory, memory_handles
from remora.report.pipeline_picture import draw_pipeline, legend_handles
from remora.report.rendering import new_figure, rendered
from remora.report.wording import time_scale
from remora.simulator.timeline import Timeline

__all__ = ["memory_drawing", "pipeline_drawing", "timeline_drawing"]

_MAX_MEMORY_RANKS = 8
# Inches.
_LEFT, _RIGHT = 0.8, 0.85
_COMPUTE_ROW = 0.36
_LEGEND_ROW, _LEGEND_ENTRY = 0.22, 1.35
_AXIS = 0.5
_PANEL, _ONE_PANEL, _PANEL_TITLE = 1.35, 2.4, 0.27
_MIN_WIDTH, _MAX_WIDTH = 11.0, 22.0


def timeline_drawing(timeline: Timeline, budget_bytes: int, form: str = "png") -> bytes:
    """Draw the pipeline above the memory of up to eight ranks, the fullest ones.

    Args:
        timeline: simulated or measured run.
        budget_bytes: drawn as a dashed line.
        form: one of :data:`~remora.report.rendering.FORMS`.

    Returns:
        The file.
    """
    picture = pipeline_picture(timeline)
    width = _width(picture)
    above = _pipeline_height(picture, width)
    figure = new_figure(width, above + _memory_height(timeline, width))
    _add_pipeline(figure, picture, 0.0)
    _add_memory(figure, timeline, budget_bytes, above)
    return rendered(figure, form)


def pipeline_drawing(timeline: Timeline, form: str = "png") -> bytes:
    """Draw what every rank computes, copies and sends; see :func:`timeline_drawing`."""
    picture = pipeline_picture(timeline)
    width = _width(picture)
    figure = new_figure(width, _pipeline_height(picture, width))
    _add_pipeline(figure, picture, 0.0)
    return rendered(figure, form)


def memory_drawing(
    timeline: Timeline,
    budget_bytes: int,
    form: str = "png",
    measured: Timeline | None = None,
) -> bytes:
    """Draw the memory of up to eight ranks, the fullest ones; see :func:`timeline_drawing`.

    Args:
        timeline: simulated run.
        budget_bytes: drawn as a dashed line.
        form: one of :data:`~remora.report.rendering.FORMS`.
        measured: real run of the same schedule, laid over the simulated one as a line.
    """
    figure = new_figure(_MIN_WIDTH, _memory_height(timeline, _MIN_WIDTH))
    _add_memory(figure, timeline, budget_bytes, 0.0, measured)
    return rendered(figure, form)


def _add_pipeline(figure: Any, picture: PipelinePicture, top: float) -> None:
    """Add legend, rows and time axis, ``top`` inches below the upper edge."""
    width = figure.get_figwidth()
    handles = legend_handles(picture)
    legend_height = _add_legend(figure, handles, top)
    height = picture.height * _COMPUTE_ROW
    axes = _axes(figure, _LEFT, top + legend_height, width - _LEFT - _RIGHT, height)
    draw_pipeline(axes, picture, (width - _LEFT - _RIGHT) * 72)


def _add_memory(
    figure: Any,
    timeline: Timeline,
    budget_bytes: int,
    top: float,
    measured: Timeline | None = None,
) -> None:
    """Add legend and one panel per rank, ``top`` inches below the upper edge."""
    ranks = fullest_ranks(timeline, _MAX_MEMORY_RANKS)
    handles = memory_handles(timeline, ranks, budget_bytes, measured)
    legend_height = _add_legend(figure, handles, top)
    columns, _ = _grid(len(ranks), figure.get_figwidth())
    usable = figure.get_figwidth() - _LEFT - _RIGHT
    panel_width = (usable - (columns - 1) * _LEFT) / columns
    _, unit = time_scale(timeline.step_time_s)
    for position, rank in enumerate(ranks):
        row, column = divmod(position, columns)
        left = _LEFT + column * (panel_width + _LEFT)
        panel = _panel_height(len(ranks))
        panel_top = top + legend_height + row * (panel + _PANEL_TITLE) + _PANEL_TITLE
        axes = _axes(figure, left, panel_top, panel_width, panel)
        draw_memory(axes, timeline, rank, budget_bytes, measured)
        lowest = position + columns >= len(ranks)
        axes.tick_params(labelbottom=lowest)
        if lowest:
            axes.set_xlabel(unit, fontsize=8)


def _width(picture: PipelinePicture) -> float:
    wanted = _LEFT + _RIGHT + picture.wanted_points / 72
    return min(_MAX_WIDTH, max(_MIN_WIDTH, wanted))


def _pipeline_height(picture: PipelinePicture, width: float) -> float:
    legend = _legend_height(len(legend_handles(picture)), width)
    return legend + picture.height * _COMPUTE_ROW + _AXIS


def _memory_height(timeline: Timeline, width: float) -> float:
    ranks = fullest_ranks(timeline, _MAX_MEMORY_RANKS)
    _, rows = _grid(len(ranks), width)
    legend = _legend_height(len(memory_handles(timeline, ranks, 0)), width)
    return legend + rows * (_panel_height(len(ranks)) + _PANEL_TITLE) + _AXIS


def _panel_height(num_panels: int) -> float:
    return _PANEL if num_panels > 1 else _ONE_PANEL


def _grid(num_panels: int, width: float) -> tuple[int, int]:
    """Columns and rows of the memory panels."""
    columns = min(num_panels, 2 if width < 16 else 4)
    return columns, math.ceil(num_panels / columns)


def _legend_columns(width: float) -> int:
    return max(1, int((width - _LEFT) / _LEGEND_ENTRY))


def _legend_height(num_entries: int, width: float) -> float:
    return 0.15 + _LEGEND_ROW * math.ceil(num_entries / _legend_columns(width))


def _add_legend(figure: Any, handles: Sequence[Any], top: float) -> float:
    width, height = figure.get_size_inches()
    columns = _legend_columns(width)
    figure.legend(
        # Matplotlib fills column by column; people read row by row.
        handles=[handle for column in range(columns) for handle in handles[column::columns]],
        ncols=min(columns, len(handles)),
        loc="upper left",
        bbox_to_anchor=(0.6 * _LEFT / width, 1 - (top + 0.02) / height),
        fontsize=8,
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.5,
    )
    return _legend_height(len(handles), width)


def _axes(figure: Any, left: float, top: float, width: float, height: float) -> Any:
    """Add axes at a place given in inches from the upper left corner."""
    full_width, full_height = figure.get_size_inches()
    bottom = full_height - top - height
    return figure.add_axes(
        (left / full_width, bottom / full_height, width / full_width, height / full_height)
    )
