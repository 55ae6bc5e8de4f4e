"""Worker processes that run tasks: one thread each, ended by Ctrl-C, replaced if they die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from remora.api.bench.methods import MethodRun
from remora.api.bench.task import Opened, Outcome, Task, run_task
from remora.errors import RemoraError

__all__ = ["Lost", "run_in_workers"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_BUILD_S = 600.0
"""A problem takes less to build, also on a busy machine."""
_LATE_FACTOR, _LATE_S = 5.0, 60.0


@dataclass(frozen=True)
class Lost:
    """A run that took its worker with it; the others of its task are run by a new one.

    Attributes:
        task: what the worker was given.
        run: the one that it was at.
        reason: a sentence.
    """

    task: Task
    run: MethodRun
    reason: str


@dataclass(frozen=True)
class _Failed:
    error: RemoraError


class _Worker:
    """A process and the task it has."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        with _one_thread():
            self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.done = 0
        self.deadline = 0.0

    def give(self, task: Task) -> None:
        """Hand it a task."""
        self.task, self.done = task, 0
        self.deadline = time.monotonic() + _BUILD_S + _longest_s(task)
        self.connection.send(task)

    def end(self) -> None:
        """Stop it, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_in_workers(tasks: Sequence[Task], jobs: int) -> Iterator[Opened | Outcome | Lost]:
    """Run tasks in so many processes and yield what they find as soon as it is there.

    Args:
        tasks: in the order in which they are begun.
        jobs: number of processes.

    Yields:
        For each task that it is opened, and for each of its runs an outcome or that it is lost.

    Raises:
        RemoraError: a problem cannot be built.
        KeyboardInterrupt: every worker has been ended.
    """
    waiting = deque(tasks)
    workers = [_Worker() for _ in range(min(jobs, len(tasks)))]
    try:
        for worker in workers:
            worker.give(waiting.popleft())
        while busy := [worker for worker in workers if worker.task is not None]:
            for found in _news(busy):
                yield found
                if isinstance(found, Lost):
                    waiting.extendleft(_rest(found))
            if waiting:
                workers = list(map(_alive, workers))
            for worker in workers:
                if worker.task is None and waiting:
                    worker.give(waiting.popleft())
    finally:
        for worker in workers:
            worker.end()


def _alive(worker: _Worker) -> _Worker:
    """The worker, or a new one in the place of one that died."""
    if worker.task is not None or worker.process.is_alive():
        return worker
    worker.end()
    return _Worker()


def _news(busy: Sequence[_Worker]) -> Iterator[Opened | Outcome | Lost]:
    """What has come in within a second."""
    ready = wait([worker.connection for worker in busy], timeout=1.0)
    for worker in busy:
        if worker.connection in ready:
            yield from _received(worker)
        elif time.monotonic() > worker.deadline:
            worker.process.kill()
            worker.process.join()
            yield _lost(worker, "the method did not come back and was ended")


def _received(worker: _Worker) -> Iterator[Opened | Outcome | Lost]:
    assert worker.task is not None
    try:
        message = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode
        yield _lost(worker, f"the process that ran the method died with exit code {code}")
        return
    if message is None:
        worker.task = None
        return
    if isinstance(message, _Failed):
        raise message.error
    worker.done += isinstance(message, Outcome)
    worker.deadline = time.monotonic() + _longest_s(worker.task)
    yield message


def _lost(worker: _Worker, reason: str) -> Lost:
    assert worker.task is not None
    lost = Lost(worker.task, worker.task.runs[worker.done], reason)
    worker.task = None
    return lost


def _rest(lost: Lost) -> list[Task]:
    """The task with the runs after the one that was lost."""
    runs = lost.task.runs
    left = runs[runs.index(lost.run) + 1 :]
    return [replace(lost.task, runs=left)] if left else []


def _longest_s(task: Task) -> float:
    return _LATE_FACTOR * task.time_limit_s + _LATE_S


def _work(connection: Connection) -> None:
    """The life of a worker: tasks in, findings out, None after each."""
    # Ctrl-C reaches every process of the terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm: set[str] = set()
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        try:
            for found in run_task(task, warm):
                connection.send(found)
        except RemoraError as error:
            connection.send(_Failed(error))
        connection.send(None)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Numerical libraries of a process started meanwhile take one thread."""
    before: Mapping[str, str | None] = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
