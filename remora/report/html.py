"""The report as one HTML file that carries its drawing library and opens offline."""

from __future__ import annotations

from typing import Any

from remora.report.choice_table import choice_table
from remora.report.content import ReportContent, unit_rows
from remora.report.contribution import contribution_sentences
from remora.report.gantt_data import MAX_SINGLE_INSTRUCTIONS, gantt_data
from remora.report.headline import headline
from remora.report.html_parts import drawing, note, page, paragraphs, table, tiles, words
from remora.report.memory_data import memory_data
from remora.report.plan_words import plan_sentences, stage_cells
from remora.report.summary import busy_cells, candidate_cells, summary_groups
from remora.report.unit_bars import unit_bars
from remora.report.unit_times import unit_time_cells
from remora.report.verdict_words import verdict_cells
from remora.schedule.inference import Mode
from remora.schedule.program import Stream

__all__ = ["report_html"]

_Section = tuple[str, str, str]
"""Id, heading and HTML."""


def report_html(content: ReportContent) -> str:
    """Write the report: figures, words, timeline, memory, units, candidates, verdict and plan.

    Every name that comes from the model, its hardware or a file is escaped.

    Args:
        content: what to show.

    Returns:
        A complete HTML page of less than 2 MB for all but the largest plans, of which 1.2 MB are
        the drawing library.
    """
    sections = [
        _timeline(content),
        _memory(content),
        *_units(content),
        *_candidates(content),
        *_measured(content),
        _plan(content),
    ]
    head = tiles(headline(content)) + words(summary_groups(content, with_plan=False))
    return page(f"Remora: {content.graph.model_name}", head, sections, _data(content))


def _data(content: ReportContent) -> dict[str, Any]:
    measured = content.measured
    bars = unit_bars(content.choices, _bar_words(content))
    return {
        "units": [unit.name for unit in content.graph.units],
        "gantt": gantt_data(content.timeline, measured),
        "memory": memory_data(content.timeline, content.budget_bytes, measured),
        "plain": {} if bars is None else {"units": bars},
    }


def _timeline(content: ReportContent) -> _Section:
    several = len(content.timeline.peak_bytes) > 1
    rows = "One wide row per rank shows what it computes" if several else "The wide row is compute"
    text = f"{rows}; the pale ground is waiting."
    if any(event.instruction.stream is not Stream.COMPUTE for event in content.timeline.events):
        text += " Thin rows are copies and messages that run beside it."
    text += f" Numbers are those of the {'micro-batches' if _many(content) else 'units'}."
    if content.schedule.tensor.degree > 1:
        text += f" Each rank is {content.schedule.tensor.degree} devices that do the same."
    if content.measured is not None:
        text += " Under every predicted row stands what a real run did."
    if len(content.timeline.events) > MAX_SINGLE_INSTRUCTIONS:
        text += " The work of a stage on one micro-batch is drawn as one box per kind."
    text += " Point at a box to learn more, drag to zoom in, double-click to zoom out."
    return "timeline", f"What runs when, in one {content.run_name}", note(text) + drawing()


def _many(content: ReportContent) -> bool:
    return content.schedule.pipeline.micro_batches > 1


def _memory(content: ReportContent) -> _Section:
    text = (
        "Bytes on each device over time, stacked by what they are for; the dashed line is the "
        "budget."
    )
    if content.measured is not None:
        text += " The solid line is what a real run held."
    peaks = ""
    if len(content.timeline.memory) > 1:
        peaks = '<h3>Every rank at its peak</h3><div class="drawing peaks"></div>'
    body = f'<div class="controls"></div><div class="legend"></div>{peaks}'
    return "memory", "Memory over time", note(text) + body + '<div class="panels"></div>'


def _bar_words(content: ReportContent) -> str:
    return "weights, caches" if content.mode is Mode.INFERENCE else "saved for backward"


def _units(content: ReportContent) -> list[_Section]:
    heading = "What happens to each unit, and why"
    if not content.choices:
        rows = [
            (str(row.index), row.name, row.actions, " > ".join(row.groups))
            for row in unit_rows(content.graph, content.schedule)
        ]
        cells = table(("unit", "name", "action", "recomputed in groups"), rows, tall=True)
        return [("units", heading, cells)]
    in_pass = content.mode is Mode.INFERENCE
    text = (
        "A unit is a piece of the model that is planned as a whole. Bars are the bytes that it "
        f"would hold ({_bar_words(content)}). The table has, for every alternative, bytes held on "
        "the device / seconds added for one micro-batch; the one taken is marked."
    )
    body = note(text) + '<div class="drawing"></div>'
    body += choice_table(content.choices, content.estimate.step_time_s, in_pass)
    return [("units", heading, body)]


def _candidates(content: ReportContent) -> list[_Section]:
    if not content.candidates:
        return []
    header, rows = candidate_cells(content)
    looks = [*("chosen" if row.chosen else "" for row in content.candidates), "bound"]
    text = note(
        "Every scheduler that was asked; the plan is the fastest that fits, marked with *. "
        "No schedule can be faster than the lower bound."
    )
    learned = contribution_sentences(content.candidates)
    policy = f"<h3>The learned policy</h3>{paragraphs(learned)}" if learned else ""
    return [("candidates", "Candidates", text + table(header, rows, looks) + policy)]


def _measured(content: ReportContent) -> list[_Section]:
    if content.verification is None:
        return []
    body = table(*verdict_cells(content, content.verification))
    if content.measured is not None:
        names = [unit.name for unit in content.graph.units]
        body += "<h3>Predicted and measured time of each unit</h3>"
        body += note(f"The predicted time / that of one measured {content.run_name}.")
        body += table(*unit_time_cells(content.timeline, content.measured, names), tall=True)
    return [("measured", "Predicted and measured", body)]


def _plan(content: ReportContent) -> _Section:
    body = paragraphs(plan_sentences(content))
    if content.schedule.pipeline.num_stages > 1:
        body += table(*stage_cells(content))
    body += f"<h3>Time by kind of work</h3>{table(*busy_cells(content))}"
    return "plan", "Pipeline, state and work", body
