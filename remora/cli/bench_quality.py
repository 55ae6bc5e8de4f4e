"""``remora bench quality``: schedulers on the problems of a suite, at equal time."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from remora.api.bench.methods import read_methods
from remora.api.bench.quality import ROWS_NAME, QualityRequest, Watch, run_quality
from remora.api.bench.quality_files import write_quality
from remora.api.bench.rows import Row
from remora.api.bench.suite import suite_from_values
from remora.api.bench.tables import sections
from remora.cli.bench_output import print_sections, rows_named_if_interrupted
from remora.cli.console import counted_progress, output, print_files
from remora.cli.request import plain
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
    with (
        rows_named_if_interrupted(console, request.out / ROWS_NAME),
        counted_progress("building problems") as show,
    ):
        watch = Watch(row=lambda row, done, total: show(_text(row), done, total))
        result = run_quality(request, watch)
    print_sections(console, sections(result.rows), result.notes)
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


def _text(row: Row) -> str:
    time_text = "-" if row.step_time_s is None else duration_text(row.step_time_s)
    return f"{row.problem} {row.method} {time_text}"
