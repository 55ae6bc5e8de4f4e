"""The report as one HTML file that carries its drawing library and opens offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from remora.report.content import ReportContent, unit_rows
from remora.report.figures import memory_figure, timeline_figure
from remora.report.summary import candidate_cells, summary_sentences, verdict_cells

__all__ = ["report_html"]

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; line-height: 1.45; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.25rem 0.8rem; text-align: left;
         font-variant-numeric: tabular-nums; }
tr.chosen { font-weight: bold; }
h2 { margin-top: 2rem; }
"""


def report_html(content: ReportContent) -> str:
    """Write the report: summary, candidates, verdict, timeline, memory, and every unit.

    Every name that comes from the model, its hardware or a file is escaped.

    Args:
        content: what to show.

    Returns:
        A complete HTML page of about 5 MB, of which all but a little is Plotly.
    """
    names = [unit.name for unit in content.graph.units]
    timeline = content.timeline
    figures = {"timeline": timeline_figure(timeline, names)}
    for rank, samples in enumerate(timeline.memory):
        figures[f"memory-{rank}"] = memory_figure(
            samples, timeline.step_time_s, content.budget_bytes
        )
    title = escape(f"Remora: {content.graph.model_name}")
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(s)}</p>" for s in summary_sentences(content))]
    body += _candidates(content)
    if content.verification is not None:
        body += _section("Measured", _table(*verdict_cells(content, content.verification)))
    body += _section("Timeline of one step", _place("timeline"))
    for rank in range(len(timeline.memory)):
        body += _section(f"Memory of rank {rank}", _place(f"memory-{rank}"))
    body += _section("What happens to each unit", _units(content))
    return _page(title, "\n".join(body), figures)


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


def _section(heading: str, content: str) -> list[str]:
    return [f"<h2>{escape(heading)}</h2>", content]


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

    # A name with "</script>" in it must not end the script.
    data = json.dumps(figures).replace("</", "<\\/")
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
