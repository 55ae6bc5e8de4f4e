"""The page of a budget sweep: the Pareto front of step time over memory budget.

Letters: p points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from remora.report.content import ReportContent
from remora.report.gantt_data import short
from remora.report.html_parts import Tile, note, page, table, tiles, words
from remora.report.unit_actions import KEPT, OFFLOADED, RECOMPUTED, fates
from remora.report.wording import (
    bytes_scale,
    bytes_text,
    compared_text,
    duration_text,
    overhead_text,
    time_scale,
)
from remora.schedule.inference import Mode

__all__ = ["front_html"]


def front_html(contents: Sequence[ReportContent]) -> str:
    """Write the page of a sweep.

    Args:
        contents: of one plan per budget, by rising budget; at least one.  # [p]

    Returns:
        A complete HTML page that opens offline.
    """
    first = contents[0]
    text = note(
        "Each point is the best plan found for one budget; between points the plan of the smaller "
        "budget holds. No plan lies below the dotted line. Point at a plan to learn more."
    )
    body = f'{text}<div class="drawing"></div>'
    sections = [
        ("front", f"{first.run_name.capitalize()} time over memory budget", body),
        ("budgets", "The plan of every budget", table(*_cells(contents))),
    ]
    head = tiles(_tiles(contents)) + words(_words(contents))
    data = {"plain": {"front": _figure(contents)}}
    return page(f"Remora: {first.graph.model_name}, budget sweep", head, sections, data)


def _tiles(contents: Sequence[ReportContent]) -> list[Tile]:
    least, most = contents[0], contents[-1]
    cheap = _cheap(contents)
    kept = most.keep_all_step_time_s
    found = [
        Tile(
            "Smallest budget",
            bytes_text(least.budget_bytes),
            f"{compared_text(least.estimate.step_time_s, kept)} keeping all takes per "
            f"{least.run_name}",
        ),
        Tile("Keeping all", bytes_text(most.keep_all_peak_bytes), duration_text(kept)),
    ]
    if cheap is not None:
        share = 1 - cheap.budget_bytes / most.keep_all_peak_bytes
        what = f"Least memory for 5 % more {least.run_name} time"
        found.insert(
            1, Tile(what, bytes_text(cheap.budget_bytes), f"{share:.0%} less than keeping all")
        )
    return found


def _cheap(contents: Sequence[ReportContent]) -> ReportContent | None:
    """The smallest budget whose plan takes at most a twentieth longer than keeping all."""
    for content in contents:
        if content.estimate.step_time_s <= 1.05 * content.keep_all_step_time_s:
            return content
    return None


def _words(contents: Sequence[ReportContent]) -> dict[str, list[str]]:
    least, most = contents[0], contents[-1]
    asked = (
        f"{least.graph.model_name} on {least.hardware_name}: {len(least.graph.units)} units, "
        f"{len(contents)} budgets from {bytes_text(least.budget_bytes)}, the smallest peak that "
        f"was found, to {bytes_text(most.budget_bytes)}, which holds everything."
    )
    model = least.estimate.cost_model
    reason = f", {least.cost_reason}" if least.cost_reason else ""
    groups = {
        "Asked": [asked, least.hardware_state],
        "Answer": [
            f"The plans of {least.agent} take from {duration_text(most.estimate.step_time_s)} to "
            f"{duration_text(least.estimate.step_time_s)} per {least.run_name}."
        ],
        "How sure": [f"Predicted by cost model {model}{reason}."],
    }
    return {name: [s for s in sentences if s] for name, sentences in groups.items()}


def _cells(contents: Sequence[ReportContent]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    train = contents[0].mode is Mode.TRAIN
    run = contents[0].run_name
    header = ("budget", f"{run} time", "over keep all", "peak", "lower bound")
    counted = ("kept", "recomputed", "offloaded", "mixed") if train else ()
    return (*header, *counted), [_row(content, train) for content in contents]


def _row(content: ReportContent, train: bool) -> tuple[str, ...]:
    estimate = content.estimate
    cells = (
        bytes_text(content.budget_bytes),
        duration_text(estimate.step_time_s),
        overhead_text(estimate.step_time_s, content.keep_all_step_time_s),
        bytes_text(estimate.peak_memory_bytes),
        duration_text(content.lower_bound_s),
    )
    if not train:
        return cells
    counts = fates(content.graph, content.schedule.memory)
    named = [counts[fate] for fate in (KEPT, RECOMPUTED, OFFLOADED)]
    return (*cells, *map(str, named), str(counts.total() - sum(named)))


def _figure(contents: Sequence[ReportContent]) -> dict[str, Any]:
    size, unit = bytes_scale(contents[-1].budget_bytes)
    slowest = max(content.estimate.step_time_s for content in contents)
    factor, time_unit = time_scale(slowest)
    budgets = [short(content.budget_bytes / size) for content in contents]
    times = [short(content.estimate.step_time_s * factor) for content in contents]
    bounds = [content.lower_bound_s for content in contents]
    run = contents[0].run_name
    front = {
        "uid": "front",
        "type": "scatter",
        "mode": "lines+markers",
        "x": budgets,
        "y": times,
        "text": [_hover(content) for content in contents],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"shape": "hv", "width": 2.5, "color": "#0072B2"},
        "marker": {"size": 9, "color": "#0072B2"},
    }
    bound = {
        "uid": "bound",
        "type": "scatter",
        "mode": "lines",
        "x": budgets,
        "y": [None if math.isinf(bound) else short(bound * factor) for bound in bounds],
        "hoverinfo": "skip",
        "line": {"dash": "dot", "width": 2, "color": "#1b1f24"},
    }
    return {
        "height": 420,
        "legend": [
            {"name": "plan", "line": "steps"},
            {"name": "lower bound", "line": "dotted"},
        ],
        "traces": [bound, front],
        "layout": {
            "hovermode": "closest",
            "xaxis": {"title": {"text": f"memory budget ({unit})", "standoff": 6}},
            "yaxis": {"title": {"text": f"{run} time ({time_unit})"}},
        },
    }


def _hover(content: ReportContent) -> str:
    estimate = content.estimate
    compared = compared_text(estimate.step_time_s, content.keep_all_step_time_s)
    return (
        f"<b>budget {bytes_text(content.budget_bytes)}</b><br>"
        f"{duration_text(estimate.step_time_s)} ({compared} keeping all)<br>"
        f"peak {bytes_text(estimate.peak_memory_bytes)}<br>"
        f"lower bound {duration_text(content.lower_bound_s)}"
    )
