"""What the benchmarks print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from remora.api.bench.tables import Section
from remora.cli.console import print_line
from remora.report.tables import cells_table

__all__ = ["print_sections", "rows_named_if_interrupted"]


def print_sections(console: Console, sections: Iterable[Section], notes: Iterable[str]) -> None:
    """Print tables under their titles, then the notes."""
    for section in sections:
        print_line(console, section.title)
        console.print(cells_table(section.header, section.rows))
        print_line(console)
    for note in notes:
        print_line(console, note)


@contextmanager
def rows_named_if_interrupted(console: Console, rows: Path) -> Iterator[None]:
    """Say how to go on where a benchmark is interrupted that has written rows.

    Raises:
        KeyboardInterrupt: it was.
    """
    try:
        yield
    except KeyboardInterrupt:
        if rows.exists():
            print_line(console, f"rows so far: {rows}; go on with out={rows.parent} resume=true")
        raise
