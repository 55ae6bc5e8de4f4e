"""A policy on problems of kinds that it never saw: as it is, then after practice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from remora.api.bench.best_known import best_known_path, read_best_known
from remora.api.bench.intake import Intake
from remora.api.bench.methods import MethodRun
from remora.api.bench.rows import Row, RowKey, append_row, read_rows
from remora.api.bench.task import KnownAnswer, Task
from remora.api.bench.transfer.groups import Group
from remora.api.bench.transfer.methods import (
    FINE_TUNED,
    FROM_SCRATCH,
    UNTRAINED,
    ZERO_SHOT,
    policy_runs,
    reference_run,
    unlearned_runs,
)
from remora.api.bench.transfer.problems import TransferProblem, build_transfer, judged_problems
from remora.api.bench.transfer.request import ROWS_NAME, TransferRequest, claim
from remora.api.bench.transfer.trainings import Trainer, Training
from remora.api.bench.workers import run_in_workers
from remora.envs.warm_up import compile_kernels

__all__ = ["TransferResult", "run_transfer"]

_TRAININGS = "trainings"


@dataclass(frozen=True)
class TransferResult:
    """What came out.

    Attributes:
        rows: one per problem, method and seed; the name of a problem begins with its group.
        trainings: one per group, seed and start.
        notes: sentences about what was left out.
    """

    rows: tuple[Row, ...]
    trainings: tuple[Training, ...]
    notes: tuple[str, ...]


def run_transfer(
    request: TransferRequest, tell: Callable[[str], None] = lambda text: None
) -> TransferResult:
    """Plan all problems without practice, then group by group after it.

    Rows and trained policies are in the folder as soon as they are there.

    Args:
        request: what to judge.
        tell: called with a few words about what is going on.

    Raises:
        InvalidInputError: the folder has rows and ``resume`` is false, or no problem of a group
            can be drawn.
        FileFormatError: a file cannot be read, or what lies in the folder is of another run.
        RemoraError: a problem cannot be built.
        KeyboardInterrupt: rows and trained policies so far are kept.
    """
    policy = request.load()
    kept, notes = read_rows(request.out / ROWS_NAME)
    claim(request, used=bool(kept))
    # What could not be trained for is tried again.
    rows = {row.key: row for row in kept if not row.note.startswith(UNTRAINED)}
    run = _Running(request, rows, list(notes), tell)
    tell("compiling the environment")
    # Workers find it in the cache; one that compiled for minutes would be taken for a stuck one.
    compile_kernels()
    problems = {}
    for group in request.groups:
        tell(f"{group.name}: building problems")
        problems[group.name] = judged_problems(group, request.problems)
    run.add(chain(*(_first_tasks(request, one, problems[one.name]) for one in request.groups)))
    trainings: list[Training] = []
    for group in request.groups:
        for seed in request.seeds:
            folder = request.out / _TRAININGS / group.name / f"seed_{seed}"
            trainer = Trainer(group, policy, request.practice, request.fine_tune_s, seed, folder)
            found = [trainer.training(name, tell) for name in (FINE_TUNED, FROM_SCRATCH)]
            runs = tuple(
                planned
                for one in found
                for planned in policy_runs(one.policy, seed, trainer.path(one.policy), one.fault)
            )
            run.add(_task(request, problem, runs) for problem in problems[group.name])
            trainings += found
    return TransferResult(run.rows(), tuple(trainings), tuple(run.notes))


@dataclass
class _Running:
    """A bench on its way."""

    request: TransferRequest
    kept: dict[RowKey, Row]
    notes: list[str]
    tell: Callable[[str], None]
    asked: dict[RowKey, None] = field(default_factory=dict)
    intake: Intake = field(init=False)

    def __post_init__(self) -> None:
        """Let every row that comes be written down."""
        self.intake = Intake(self._keep, self.notes)

    def add(self, tasks: Iterable[Task]) -> None:
        """Run what has no row yet."""
        left = []
        for task in tasks:
            self.asked.update(dict.fromkeys(_key(task, run) for run in task.runs))
            runs = tuple(run for run in task.runs if _key(task, run) not in self.kept)
            if runs:
                left.append(replace(task, runs=runs))
        for found in run_in_workers(left, self.request.jobs):
            self.intake.take(found)

    def rows(self) -> tuple[Row, ...]:
        """Rows that were asked for, in the order of their groups and problems."""
        rows = [self.kept[key] for key in self.asked]
        order = {name: place for place, name in enumerate(dict.fromkeys(r.problem for r in rows))}
        return tuple(sorted(rows, key=lambda row: order[row.problem]))

    def _keep(self, row: Row) -> None:
        self.kept[row.key] = row
        append_row(self.request.out / ROWS_NAME, row)
        answer = "none" if row.step_time_s is None else f"{row.step_time_s:.4g} s"
        self.tell(f"{len(self.kept)} rows: {row.problem}, {row.method}: {answer}")


def _first_tasks(
    request: TransferRequest, group: Group, problems: Sequence[TransferProblem]
) -> Iterator[Task]:
    """What needs no practice, and the long search where nothing is known."""
    answers = {}
    if group.suite is not None:
        answers = read_best_known(best_known_path(group.suite))
    policy = (policy_runs(ZERO_SHOT, seed, request.policy) for seed in request.seeds)
    runs = (*chain(*policy), *unlearned_runs(request.seeds))
    for problem in problems:
        known = answers.get(problem.source.name)
        yield _task(request, problem, runs, None if known is None else known.answer)
        if known is None:
            task = _task(request, problem, (reference_run(),))
            yield replace(task, time_limit_s=request.reference_s)


def _task(
    request: TransferRequest,
    problem: TransferProblem,
    runs: tuple[MethodRun, ...],
    known: KnownAnswer | None = None,
) -> Task:
    return Task(problem, runs, request.time_limit_s, known, build_transfer)


def _key(task: Task, run: MethodRun) -> RowKey:
    return (task.item.digest, run.method.label, run.seed, task.time_limit_s)
