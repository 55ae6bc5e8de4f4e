"""Methods against each other on a suite: who finds the fastest schedule in the same time."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import remora
from remora.api.bench.best_known import (
    BestKnown,
    best_known_path,
    is_better,
    read_best_known,
    write_best_known,
)
from remora.api.bench.intake import Intake
from remora.api.bench.methods import Method, MethodRun, method_runs
from remora.api.bench.rows import Row, RowKey, append_row, read_rows
from remora.api.bench.suite import Suite, SuiteProblem
from remora.api.bench.task import Opened, Outcome, Task
from remora.api.bench.workers import run_in_workers
from remora.errors import InvalidInputError

__all__ = ["ROWS_NAME", "QualityRequest", "QualityResult", "Watch", "run_quality", "versions"]

ROWS_NAME = "rows.jsonl"


@dataclass(frozen=True)
class QualityRequest:
    """What to compare.

    Attributes:
        suite: the problems.
        methods: the schedulers.
        seeds: of those that draw random numbers.
        time_limit_s: of each run.
        jobs: processes at once.
        out: folder of the rows.
        resume: go on from the rows there.
        update_best_known: keep schedules that are better than the best known ones.
        best_known: file of those; None for the one that comes with the package.
        command: kept with better ones.
    """

    suite: Suite
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    time_limit_s: float
    jobs: int
    out: Path
    resume: bool = False
    update_best_known: bool = False
    best_known: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.time_limit_s > 0:
            raise InvalidInputError(
                f"time_limit_s is {self.time_limit_s}, allowed: seconds above 0"
            )
        if self.jobs < 1:
            raise InvalidInputError(f"jobs is {self.jobs}, allowed: 1 or more")
        if self.best_known is not None and not self.best_known.is_file():
            made = self.update_best_known and not self.best_known.exists()
            if not made:
                raise InvalidInputError(
                    f"best_known is {str(self.best_known)!r}, allowed: a file that is there, or a "
                    "new one with update_best_known=true"
                )
        method_runs(self.methods, self.seeds)

    @property
    def answers_path(self) -> Path:
        """The file of the best schedules known."""
        return self.best_known or best_known_path(self.suite.name)


@dataclass(frozen=True)
class QualityResult:
    """What came out.

    Attributes:
        rows: one per problem, method and seed, in that order.
        notes: sentences about what was left out or replaced.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Watch:
    """Called while a comparison runs.

    Attributes:
        row: with every new row, the number of rows there are, and how many there will be.
    """

    row: Callable[[Row, int, int], None] = field(default=lambda row, done, total: None)


def run_quality(request: QualityRequest, watch: Watch | None = None) -> QualityResult:
    """Run every method on every problem; rows are in the file as soon as they are there.

    Raises:
        InvalidInputError: the folder has rows and ``resume`` is false.
        FileFormatError: a file cannot be read.
        RemoraError: a problem cannot be built.
        KeyboardInterrupt: the rows so far are kept.
    """
    path = request.out / ROWS_NAME
    kept, notes = read_rows(path)
    if kept and not request.resume:
        raise InvalidInputError(
            f"out is {str(request.out)!r}, which has rows of an earlier run; allowed: another "
            "folder, or resume=true"
        )
    answers = read_best_known(request.answers_path)
    asked = _asked(request)
    rows = {row.key: row for row in kept if row.key in asked}
    run = _Running(request, answers, rows, len(asked), watch or Watch())
    intake = Intake(run.keep, list(notes))
    for found in run_in_workers(_tasks(request, answers, set(rows)), request.jobs):
        intake.take(found)
        if isinstance(found, Outcome):
            run.improve(found, intake.opened)
    ordered = tuple(run.rows[key] for key in asked if key in run.rows)
    return QualityResult(ordered, tuple(intake.notes))


@dataclass
class _Running:
    """A comparison on its way."""

    request: QualityRequest
    answers: dict[str, BestKnown]
    rows: dict[RowKey, Row]
    total: int
    watch: Watch
    known_s: dict[str, float] = field(default_factory=dict)

    def keep(self, row: Row) -> None:
        """Write a row down."""
        self.rows[row.key] = row
        append_row(self.request.out / ROWS_NAME, row)
        self.watch.row(row, len(self.rows), self.total)

    def improve(self, found: Outcome, opened: Mapping[str, Opened]) -> None:
        """Keep a schedule that beats the best known one, if that is wanted."""
        row, request = found.row, self.request
        if not request.update_best_known or found.schedule is None:
            return
        assert row.step_time_s is not None
        assert row.peak_bytes is not None
        before = opened[row.problem]
        if not is_better(row.step_time_s, self.known_s.get(row.problem, before.known_s)):
            return
        self.known_s[row.problem] = row.step_time_s
        self.answers[row.problem] = BestKnown(
            problem_hash=row.problem_hash,
            step_time_s=row.step_time_s,
            peak_bytes=row.peak_bytes,
            method=row.method,
            seed=row.seed,
            time_limit_s=row.time_limit_s,
            command=request.command,
            date=_today(),
            versions=versions(),
            schedule=found.schedule,
        )
        write_best_known(request.answers_path, request.suite.name, self.answers)


def versions() -> dict[str, str]:
    """Versions that figures depend on."""
    packages = {name: version(name) for name in ("torch", "numba")}
    return {"remora": remora.__version__, "python": platform.python_version(), **packages}


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _asked(request: QualityRequest) -> dict[RowKey, None]:
    """Keys of all rows, in the order of problems, methods and seeds."""
    runs = method_runs(request.methods, request.seeds)
    return dict.fromkeys(
        _key(item, run, request.time_limit_s) for item in request.suite.problems for run in runs
    )


def _tasks(
    request: QualityRequest, answers: dict[str, BestKnown], done: set[RowKey]
) -> Sequence[Task]:
    """What is left to run."""
    tasks = []
    for item in request.suite.problems:
        runs = tuple(
            run
            for run in method_runs(request.methods, request.seeds)
            if _key(item, run, request.time_limit_s) not in done
        )
        known = answers.get(item.name)
        if runs:
            answer = None if known is None else known.answer
            tasks.append(Task(item, runs, request.time_limit_s, answer))
    return tasks


def _key(item: SuiteProblem, run: MethodRun, time_limit_s: float) -> RowKey:
    return (item.digest, run.method.label, run.seed, time_limit_s)
