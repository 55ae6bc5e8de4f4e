"""``remora bench quality``: schedulers on the problems of a suite, at equal time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from remora.api.bench.methods import read_methods
from remora.api.bench.quality import ROWS_NAME, QualityRequest, Watch, run_quality
from remora.api.bench.quality_files import write_quality
from remora.api.bench.rows import Row
from remora.api.bench.suite import suite_from_values
from remora.api.bench.tables import Section, sections
from remora.cli.console import output, print_files, print_line
from remora.cli.request import plain
from remora.report.tables import cells_table
from remora.report.wording import duration_text
from remora.schedule.inference import Mode

__all__ = ["quality_request", "run"]

_METHODS, _SEEDS = ("greedy", "best"), (0,)
_UPDATE_METHODS, _UPDATE_SEEDS = ("best", "annealing"), (0, 1)
_PASS_METHODS = ("stream_all", "stream_fewest", "pass_milp", "best")
"""Of suites of inference, which others do not plan."""


def run(config: DictConfig) -> None:
    """Run what is left to run, print the tables and write the files.

    Raises:
        UsageError: a value is not allowed.
        KeyboardInterrupt: the rows so far are kept, for ``resume=true``.
    """
    request = quality_request(config)
    console = output()
    try:
        with _progress_shown() as watch:
            result = run_quality(request, watch)
    except KeyboardInterrupt:
        path = request.out / ROWS_NAME
        if path.exists():
            print_line(console, f"rows so far: {path}; go on with out={request.out} resume=true")
        raise
    for section in sections(result.rows):
        _print(console, section)
    for note in result.notes:
        print_line(console, note)
    print_files(console, write_quality(request, result))


def quality_request(config: DictConfig) -> QualityRequest:
    """Read the configuration.

    Raises:
        UsageError: a name or value is not allowed.
    """
    update = config.update_best_known
    values = plain(config)
    methods = values["methods"]
    seeds = values["seeds"]
    suite = suite_from_values(values["suite"])
    if methods is None:
        methods = _UPDATE_METHODS if update else _METHODS
        if all(problem.mode == Mode.INFERENCE for problem in suite.problems):
            methods = _PASS_METHODS
    if seeds is None:
        seeds = _UPDATE_SEEDS if update else _SEEDS
    return QualityRequest(
        suite=suite,
        methods=read_methods(methods),
        seeds=tuple(seeds),
        time_limit_s=config.time_limit_s,
        jobs=config.jobs,
        out=Path(config.out),
        resume=config.resume,
        update_best_known=update,
        best_known=None if config.best_known is None else Path(config.best_known),
        command=_command(),
    )


def _command() -> str:
    """The command line without the places of files, which say nothing about the figures."""
    words = [word for word in sys.argv[1:] if not word.startswith(("out=", "best_known="))]
    return " ".join(["remora", *words])


def _print(console: Console, section: Section) -> None:
    print_line(console, section.title)
    console.print(cells_table(section.header, section.rows))
    print_line(console)


@contextmanager
def _progress_shown() -> Iterator[Watch]:
    """A bar with the time left while the context is open, or a line per row where none can be."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield Watch(
            row=lambda row, done, total: print_line(console, f"{done}/{total} {_text(row)}")
        )
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task("building problems", total=None)

        def show(row: Row, done: int, total: int) -> None:
            bar.update(shown, description=_text(row), completed=done, total=total)

        yield Watch(row=show)


def _text(row: Row) -> str:
    time_text = "-" if row.step_time_s is None else duration_text(row.step_time_s)
    return f"{row.problem} {row.method} {time_text}"
