"""The pictures of the HTML report, as the plain data that Plotly draws."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from remora.report.colours import BUDGET_COLOUR, INSTRUCTION_COLOURS, MEMORY_COLOURS
from remora.report.wording import bytes_text, duration_text
from remora.schedule.program import InstructionKind
from remora.simulator.timeline import MemorySample, TimedInstruction, Timeline

__all__ = ["memory_figure", "timeline_figure"]

_LAYOUT: dict[str, Any] = {
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 110, "r": 20, "t": 20, "b": 50},
    "legend": {"orientation": "h", "y": 1.15},
}


def timeline_figure(timeline: Timeline, unit_names: Sequence[str]) -> dict[str, Any]:
    """Draw every instruction as a bar on the row of its rank and stream.

    Args:
        timeline: simulated or measured run.
        unit_names: name of every unit; escaped here.  # [num_units]

    Returns:
        ``{"data": ..., "layout": ...}`` for Plotly.
    """
    rows = sorted({_row(event) for event in timeline.events}, reverse=True)
    traces = []
    for kind in InstructionKind:
        events = [event for event in timeline.events if event.instruction.kind is kind]
        if events:
            traces.append(_bars(kind, events, unit_names))
    layout = {
        **_LAYOUT,
        "barmode": "overlay",
        "height": 160 + 45 * len(rows),
        "xaxis": {"title": {"text": "ms"}},
        "yaxis": {"categoryorder": "array", "categoryarray": rows},
    }
    return {"data": traces, "layout": layout}


def memory_figure(
    samples: Sequence[MemorySample], step_time_s: float, budget_bytes: int
) -> dict[str, Any]:
    """Draw the memory of one rank over time, stacked by kind, under the budget.

    Args:
        samples: of one rank.  # [num_samples]
        step_time_s: end of the time axis.
        budget_bytes: drawn as a dashed line.
    """
    times = [sample.time_s * 1e3 for sample in samples]
    traces: list[dict[str, Any]] = []
    for kind, colour in MEMORY_COLOURS.items():
        levels = [sample.by_kind.get(kind, 0) / 2**30 for sample in samples]
        if any(levels):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "stackgroup": "memory",
                    "name": str(kind),
                    "x": times,
                    "y": levels,
                    "line": {"shape": "hv", "width": 0.5, "color": colour},
                    "fillcolor": colour,
                }
            )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"budget {bytes_text(budget_bytes)}",
            "x": [0.0, step_time_s * 1e3],
            "y": [budget_bytes / 2**30] * 2,
            "line": {"dash": "dash", "width": 2, "color": BUDGET_COLOUR},
        }
    )
    layout = {
        **_LAYOUT,
        "height": 420,
        "xaxis": {"title": {"text": "ms"}},
        "yaxis": {"title": {"text": "GiB"}, "rangemode": "tozero"},
    }
    return {"data": traces, "layout": layout}


def _row(event: TimedInstruction) -> str:
    return f"rank {event.instruction.rank} {event.instruction.stream}"


def _bars(
    kind: InstructionKind, events: Sequence[TimedInstruction], unit_names: Sequence[str]
) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": str(kind),
        "y": [_row(event) for event in events],
        "base": [event.start_s * 1e3 for event in events],
        "x": [(event.end_s - event.start_s) * 1e3 for event in events],
        "hovertext": [_hover(event, unit_names) for event in events],
        "hoverinfo": "text",
        "marker": {
            "color": INSTRUCTION_COLOURS[kind],
            "line": {"color": "white", "width": 0.5},
        },
    }


def _hover(event: TimedInstruction, unit_names: Sequence[str]) -> str:
    instruction = event.instruction
    unit = unit_names[instruction.unit] if instruction.unit >= 0 else ""
    text = f"{instruction.kind} {escape(unit)}".strip()
    return (
        f"{text}<br>micro-batch {instruction.micro_batch}<br>"
        f"{duration_text(event.end_s - event.start_s)}"
    )
