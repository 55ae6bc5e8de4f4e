"""The report as one HTML file that carries its drawing library and opens offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from remora.report.boxes import labels_are_units
from remora.report.content import ReportContent, unit_rows
from remora.report.figures import MAX_SINGLE_INSTRUCTIONS, memory_figure, timeline_figure
from remora.report.plan_words import plan_sentences, stage_cells
from remora.report.summary import busy_cells, candidate_cells, summary_sentences, verdict_cells
from remora.report.unit_times import unit_time_cells
from remora.report.wording import bytes_text
from remora.simulator.timeline import Timeline

__all__ = ["report_html"]

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; line-height: 1.45; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.25rem 0.8rem; text-align: left;
         font-variant-numeric: tabular-nums; }
tr.chosen { font-weight: bold; }
h2 { margin-top: 2rem; }
h3 { margin: 0.5rem 0 0; font-size: 1rem; font-weight: normal; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(34rem, 1fr)); gap: 0 1rem; }
.panels > div { min-width: 0; }
"""


def report_html(content: ReportContent) -> str:
    """Write the report: summary, candidates, verdict, timeline, memory, plan, and every unit.

    Every name that comes from the model, its hardware or a file is escaped.

    Args:
        content: what to show.

    Returns:
        A complete HTML page of about 5 MB, of which all but a little is Plotly.
    """
    title = escape(f"Remora: {content.graph.model_name}")
    figures = _figures(content)
    body = [f"<h1>{title}</h1>", *_paragraphs(summary_sentences(content, with_plan=False))]
    body += _candidates(content)
    if content.verification is not None:
        body += _section("Measured", _table(*verdict_cells(content, content.verification)))
    body += _section(
        f"Timeline of one {content.run_name}",
        _timeline_note(content, figures["timeline"]),
        _place("timeline"),
    )
    body += _section("Memory", _memory_places(content))
    body += _section("Time by kind of work", _table(*busy_cells(content)))
    body += _section("Pipeline and state", *_paragraphs(plan_sentences(content)))
    if content.schedule.pipeline.num_stages > 1:
        body.append(_table(*stage_cells(content)))
    body += _section("What happens to each unit", _units(content))
    if content.measured is not None:
        body += _beside_measured(content, content.measured)
    return _page(title, "\n".join(body), figures)


def _beside_measured(content: ReportContent, measured: Timeline) -> list[str]:
    names = [unit.name for unit in content.graph.units]
    what = f"that of one measured {content.run_name}"
    note = f"<p>Each cell has the predicted time first, then {what}.</p>"
    table = _table(*unit_time_cells(content.timeline, measured, names))
    return [
        *_section(f"Measured timeline of one {content.run_name}", _place("measured-timeline")),
        *_section("Predicted and measured time of each unit", note, table),
    ]


def _figures(content: ReportContent) -> dict[str, Any]:
    timeline = content.timeline
    names = [unit.name for unit in content.graph.units]
    figures = {"timeline": timeline_figure(timeline, names)}
    if content.measured is not None:
        figures["measured-timeline"] = timeline_figure(content.measured, names)
    for rank in range(len(timeline.memory)):
        figures[f"memory-{rank}"] = memory_figure(timeline, rank, content.budget_bytes)
    return figures


def _timeline_note(content: ReportContent, figure: Mapping[str, Any]) -> str:
    note = "Hover over a box for more, drag to zoom in."
    if any("text" in trace for trace in figure["data"]):
        number = "unit" if labels_are_units(content.timeline) else "micro-batch"
        note = f"The number in a box is the {number}. {note}"
    if len(content.timeline.events) > MAX_SINGLE_INSTRUCTIONS:
        note += " The work of a stage on one micro-batch is drawn as one box per kind."
    return f"<p>{note}</p>"


def _memory_places(content: ReportContent) -> str:
    panels = [
        f"<div><h3>rank {rank}: peak {bytes_text(peak)}</h3>{_place(f'memory-{rank}')}</div>"
        for rank, peak in enumerate(content.timeline.peak_bytes)
    ]
    return f'<div class="panels">{"".join(panels)}</div>'


def _paragraphs(sentences: Iterable[str]) -> list[str]:
    return [f"<p>{escape(sentence)}</p>" for sentence in sentences]


def _candidates(content: ReportContent) -> list[str]:
    header, rows = candidate_cells(content)
    chosen = [*(row.chosen for row in content.candidates), False]
    return _section("Candidates", _table(header, rows, chosen)) if content.candidates else []


def _units(content: ReportContent) -> str:
    rows = [
        (str(row.index), row.name, row.actions, " > ".join(row.groups))
        for row in unit_rows(content.graph, content.schedule)
    ]
    return _table(("unit", "name", "action", "recomputed in groups"), rows)


def _section(heading: str, *content: str) -> list[str]:
    return [f"<h2>{escape(heading)}</h2>", *content]


def _place(name: str) -> str:
    return f'<div id="{name}" class="figure"></div>'


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], marked: Sequence[bool] = ()
) -> str:
    lines = ["<table>", _row("th", header, False)]
    for position, row in enumerate(rows):
        lines.append(_row("td", row, bool(marked) and marked[position]))
    return "\n".join([*lines, "</table>"])


def _row(tag: str, cells: Sequence[str], marked: bool) -> str:
    attribute = ' class="chosen"' if marked else ""
    return f"<tr{attribute}>{''.join(f'<{tag}>{escape(c)}</{tag}>' for c in cells)}</tr>"


def _page(title: str, body: str, figures: dict[str, Any]) -> str:
    from plotly.offline import get_plotlyjs

    # A name with "</script>" or "<!--" in it must not end or change the script.
    data = json.dumps(figures, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
{body}
<script>
const figures = {data};
for (const [name, figure] of Object.entries(figures)) {{
  Plotly.newPlot(name, figure.data, figure.layout, {{responsive: true, displaylogo: false}});
}}
</script>
</body>
</html>
"""
