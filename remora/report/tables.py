"""The tables of the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from remora.report.content import ReportContent
from remora.report.summary import candidate_cells
from remora.report.verdict_words import verdict_cells
from remora.report.wording import bytes_text
from remora.simulator.records import Verification

__all__ = ["breakdown_table", "candidates_table", "cells_table", "verdict_table"]


def candidates_table(content: ReportContent) -> Table:
    """Return the table of candidates; the chosen one is bold."""
    header, rows = candidate_cells(content)
    marked = [*(row.chosen for row in content.candidates), False]
    return cells_table(header, rows, marked)


def verdict_table(content: ReportContent, verification: Verification) -> Table:
    """Return predicted against measured."""
    return cells_table(*verdict_cells(content, verification))


def breakdown_table(breakdown_bytes: Sequence[tuple[str, int]]) -> Table:
    """Return bytes by kind of memory, largest first."""
    rows = sorted(breakdown_bytes, key=lambda item: -item[1])
    return cells_table(
        ("memory at the peak", "bytes"), [(kind, bytes_text(size)) for kind, size in rows if size]
    )


def cells_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    marked: Sequence[bool] = (),
    numeric: bool = True,
) -> Table:
    """Return a table of plain cells; square brackets in names are shown as they are.

    Args:
        header: one text per column.
        rows: one text per column and row.
        marked: rows shown bold; empty for none.
        numeric: align all columns but the first to the right.
    """
    table = Table(box=None, padding=(0, 2, 0, 0))
    for position, name in enumerate(header):
        table.add_column(Text(name), justify="right" if numeric and position else "left")
    for position, row in enumerate(rows):
        bold = "bold" if marked and marked[position] else ""
        table.add_row(*(Text(cell, style=bold) for cell in row))
    return table
