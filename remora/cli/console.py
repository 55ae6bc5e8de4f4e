"""Where commands print: results to stdout, progress to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as BarProgress
from rich.text import Text

from remora.api.request import Progress
from remora.report.content import CandidateRow
from remora.report.wording import bytes_text, duration_text

__all__ = ["counted_progress", "output", "print_files", "print_line", "progress_shown"]

_PLAIN_WIDTH = 120


def output() -> Console:
    """Return the console for results; a pipe or file gets lines that are never cut."""
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(width=width, highlight=False, quiet=_is_other_rank())


def _is_other_rank() -> bool:
    """Whether torchrun started this process beside one that speaks for all."""
    return os.environ.get("RANK", "0") != "0"


def print_line(console: Console, text: str = "") -> None:
    """Print a sentence as it is; square brackets in names have no meaning."""
    console.print(Text(text), soft_wrap=True)


def print_files(console: Console, files: list[Path]) -> None:
    """Name the files that were written, folder by folder."""
    for folder in dict.fromkeys(path.parent for path in files):
        names = [path.name for path in files if path.parent == folder]
        print_line(console, f"written to {folder}: {', '.join(names)}")


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """Show what is going on while the context is open: a spinner, or lines where none can be."""
    console = Console(stderr=True, highlight=False, quiet=_is_other_rank())
    if not console.is_terminal:
        yield Progress(stage=lambda text: print_line(console, f"{text} ..."))
        return
    with console.status("starting") as status:

        def candidate(row: CandidateRow) -> None:
            status.update(Text(f"searching: {_row_text(row)}"))

        yield Progress(stage=lambda text: status.update(Text(text)), candidate=candidate)


@contextmanager
def counted_progress(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with the time left while the context is open, or a line per part without one.

    Args:
        first: what goes on before the first part is done.

    Yields:
        Called with words, parts done, and parts in all.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda text, done, total: print_line(console, f"{done}/{total} {text}")
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with BarProgress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task(first, total=None)
        yield lambda text, done, total: bar.update(
            shown, description=text, completed=done, total=total
        )


def _row_text(row: CandidateRow) -> str:
    if row.step_time_s is None or row.peak_memory_bytes is None:
        return row.name
    return f"{row.name} {duration_text(row.step_time_s)}, {bytes_text(row.peak_memory_bytes)}"
