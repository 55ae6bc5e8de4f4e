"""All runs on one problem of a suite: build it, check what is known of it, let methods plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from remora.agents.scheduler import proposed
from remora.api.bench.build import build_problem, problem_hash
from remora.api.bench.compact import compact_schedule, full_schedule, graph_of
from remora.api.bench.methods import MethodRun
from remora.api.bench.rows import Row
from remora.errors import RemoraError
from remora.garbage import settled
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.bounds import lower_bound_s
from remora.simulator.simulate import simulate

__all__ = ["Item", "KnownAnswer", "Opened", "Outcome", "Task", "row_without_answer", "run_task"]

_WARM_UP_S = 1.0
_LATE_SHARE = 1.5
_LATE_S = 1.0


class Item(Protocol):
    """What a row says about its problem; a :class:`remora.api.bench.suite.SuiteProblem` has it."""

    @property
    def name(self) -> str:
        """Unique in a comparison."""

    @property
    def digest(self) -> str:
        """A short name for its values, the same in every run of the program."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def hardware(self) -> str:
        """Name of the hardware."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""

    @property
    def micro_batches(self) -> int | None:
        """Fixed number of micro-batches, or None."""

    @property
    def range(self) -> float:
        """Where the budget stands from the least memory (0) to keeping everything (1)."""


@dataclass(frozen=True)
class KnownAnswer:
    """The best schedule known of a problem.

    Attributes:
        problem_hash: of the problem that it answers.
        schedule: see :func:`remora.api.bench.compact.compact_schedule`.
    """

    problem_hash: str
    schedule: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """What is to be run on one problem.

    Attributes:
        item: the problem.
        runs: methods and seeds.
        time_limit_s: of each run.
        known: the best schedule known, if there is one.
        build: makes the problem of the item; other processes call it.
    """

    item: Item
    runs: tuple[MethodRun, ...]
    time_limit_s: float
    known: KnownAnswer | None = None
    build: Callable[[Any], Problem] = build_problem


@dataclass(frozen=True)
class Opened:
    """A problem that was built.

    Attributes:
        problem: its name.
        problem_hash: its content.
        lower_bound_s: no schedule of it is faster; None where it is not known.
        known_s: step time of the known schedule, simulated again; None where it does not hold.
        known_fault: why it does not hold, in a sentence; empty if it does, or none is known.
    """

    problem: str
    problem_hash: str
    lower_bound_s: float | None
    known_s: float | None
    known_fault: str


@dataclass(frozen=True, slots=True)
class _Figures:
    step_time_s: float
    peak_bytes: int
    feasible: bool


@dataclass(frozen=True)
class Outcome:
    """One run.

    Attributes:
        row: its figures.
        schedule: compact, read back and simulated again; None unless it fits.
    """

    row: Row
    schedule: Mapping[str, Any] | None


def row_without_answer(
    task: Task, run: MethodRun, opened: Opened, search_s: float, note: str
) -> Row:
    """The row of a run that has no schedule to show.

    Args:
        task: the problem and the time limit.
        run: method and seed.
        opened: what the problem is.
        search_s: seconds that it took.
        note: why there is none.
    """
    item = task.item
    return Row(
        problem=item.name,
        digest=item.digest,
        problem_hash=opened.problem_hash,
        model=item.model,
        hardware=item.hardware,
        world_size=item.world_size,
        micro_batches=item.micro_batches,
        range=item.range,
        method=run.method.label,
        seed=run.seed,
        time_limit_s=task.time_limit_s,
        feasible=False,
        step_time_s=None,
        peak_bytes=None,
        search_s=search_s,
        lower_bound_s=opened.lower_bound_s,
        best_known_s=opened.known_s,
        note=note,
    )


def run_task(task: Task, warm: set[str] | None = None) -> Iterator[Opened | Outcome]:
    """Build a problem and run every method on it.

    Every run has a copy of the problem without tables, so that each pays for its own. A method
    that fails has a row that says so.

    Args:
        task: the problem and the runs.
        warm: labels of the methods whose code is loaded and compiled, to which others are added
            after a moment's run that does not count; None takes all as they are.

    Yields:
        First what the problem is, then one outcome per run.

    Raises:
        RemoraError: the problem cannot be built.
    """
    problem = task.build(task.item)
    opened = _opened(task, problem)
    yield opened
    for run in task.runs:
        if warm is not None and run.method.label not in warm:
            warm.add(run.method.label)
            # What goes wrong will go wrong again, and then have a row.
            with suppress(Exception):
                run.create().propose(replace(problem), min(_WARM_UP_S, task.time_limit_s))
        yield _run(task, run, problem, opened)


def _opened(task: Task, problem: Problem) -> Opened:
    name, found = task.item.name, problem_hash(problem)
    known_s, fault = None, ""
    if task.known is not None and task.known.problem_hash != found:
        fault = f"the best known answer to {name} is for another problem: it has changed since"
    elif task.known is not None:
        known_s, fault = _known(name, problem, task.known)
    bound_s = lower_bound_s(problem)
    return Opened(name, found, bound_s if bound_s < math.inf else None, known_s, fault)


def _known(name: str, problem: Problem, known: KnownAnswer) -> tuple[float | None, str]:
    try:
        figures = _simulated(problem, _read(known.schedule, problem))
    except RemoraError as error:
        return None, f"the best known answer to {name} is not valid: {error}"
    if not figures.feasible:
        return None, f"the best known answer to {name} no longer fits its budget"
    return figures.step_time_s, ""


def _run(task: Task, run: MethodRun, problem: Problem, opened: Opened) -> Outcome:
    schedule, note, begin = None, "", time.perf_counter()
    try:
        with settled():
            schedule, origin = proposed(run.create(), replace(problem), task.time_limit_s)
        note = f"began from plans of {origin}" if origin else ""
    except RemoraError as error:
        note = str(error)
    except Exception as error:
        # Hours of other rows are not lost to the bug of one method.
        note = f"bug: {type(error).__name__}: {error}"
    search_s = time.perf_counter() - begin
    row = row_without_answer(task, run, opened, search_s, note)
    if schedule is None:
        return Outcome(row, None)
    compact = compact_schedule(schedule)
    try:
        figures = _simulated(problem, _read(compact, problem))
    except RemoraError as error:
        return Outcome(replace(row, note=f"bug: its schedule is not valid: {error}"), None)
    if figures.feasible and search_s > _LATE_SHARE * task.time_limit_s + _LATE_S:
        note = f"answered after {search_s:.1f} s" + (f"; {note}" if note else "")
    row = replace(
        row,
        feasible=figures.feasible,
        step_time_s=figures.step_time_s,
        peak_bytes=figures.peak_bytes,
        note=note if figures.feasible else "does not fit",
    )
    return Outcome(row, compact if figures.feasible else None)


def _read(values: Mapping[str, Any], problem: Problem) -> Schedule:
    return full_schedule(values, graph_of(values, problem))


def _simulated(problem: Problem, schedule: Schedule) -> _Figures:
    """Figures by the reference engine, which no scheduler uses to search.

    Raises:
        InvalidInputError: the schedule breaks a rule.
    """
    timeline = simulate(problem, schedule)
    peak_bytes, host = timeline.max_peak_bytes, max(timeline.host_peak_bytes, default=0)
    fits = peak_bytes <= problem.budget_bytes and host <= problem.hardware.host.memory_bytes
    return _Figures(timeline.step_time_s, peak_bytes, fits)
