"""Makes labels one after the other or in several processes; what is there is not made again."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from remora.agents.learned.labels.label import label_path, write_label
from remora.agents.learned.labels.search import long_search
from remora.envs.building import build_problem
from remora.envs.drawing import ProblemSpec
from remora.errors import InfeasibleError, InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.report.files import write_json

__all__ = ["SearchTimes", "Source", "make_labels"]

Source = Callable[[ProblemSpec], tuple[Mapping[int, ModelGraph], Hardware]]
"""Traced graphs by number of micro-batches, and the hardware as new; other processes call it."""

Listener = Callable[[str, int, int], None]
"""Called with a problem's name, how many are done and how many there are."""

_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, slots=True)
class SearchTimes:
    """Seconds of the processor for one search, after greedy.

    Attributes:
        one_device_s: of problems of one device.
        pipeline_s: of the others.
    """

    one_device_s: float = 3.0
    pipeline_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("one_device_s", "pipeline_s"):
            value = getattr(self, name)
            if not value > 0:
                raise InvalidInputError(f"{name} is {value!r}; allowed: seconds above 0")

    def of(self, world_size: int) -> float:
        """Seconds for a problem of so many ranks."""
        return self.one_device_s if world_size == 1 else self.pipeline_s


def make_labels(
    folder: Path,
    specs: Sequence[ProblemSpec],
    source: Source,
    times: SearchTimes | None = None,
    workers: int = 1,
    listener: Listener | None = None,
) -> None:
    """Make the labels that a folder lacks.

    A problem that cannot be built or for which nothing fits is noted in the folder ``skipped``.
    Killed at any moment, a later call goes on where this one stopped.

    Args:
        folder: where labels, graphs and notes are kept.
        specs: the drawn problems.
        source: of their graphs and hardware.
        times: how long is searched.
        workers: processes; one works in this process.
        listener: told of every problem that is done.

    Raises:
        InvalidInputError: there is no worker.
        UsageError: a file cannot be written.
    """
    if workers < 1:
        raise InvalidInputError(f"workers is {workers}; allowed: 1 or more")
    missing = [spec for spec in specs if not _is_done(folder, spec.name)]
    make = partial(_make_label, folder, source, times or SearchTimes())
    done = len(specs) - len(missing)
    for name in _each(make, missing, min(workers, len(missing))):
        done += 1
        if listener is not None:
            listener(name, done, len(specs))


def _each(
    make: Callable[[ProblemSpec], str], specs: Sequence[ProblemSpec], workers: int
) -> Iterator[str]:
    if workers <= 1:
        yield from map(make, specs)
        return
    with _one_thread(), multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(make, specs)


def _make_label(folder: Path, source: Source, times: SearchTimes, spec: ProblemSpec) -> str:
    """Search and write; returns the name of the problem."""
    begun_s = time.process_time()
    try:
        graphs, hardware = source(spec)
        problem = build_problem(spec, graphs, hardware)
        found = long_search(problem, times.of(spec.world_size))
    except (InvalidInputError, InfeasibleError) as error:
        write_json(_note_path(folder, spec.name), {"problem": spec.name, "reason": str(error)})
        return spec.name
    search_s = time.process_time() - begun_s
    write_label(folder, spec, graphs, hardware, problem.budget_bytes, found, search_s)
    return spec.name


def _is_done(folder: Path, name: str) -> bool:
    return label_path(folder, name).exists() or _note_path(folder, name).exists()


def _note_path(folder: Path, name: str) -> Path:
    return folder / "skipped" / f"{name}.json"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start here work with one thread each."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
