"""Measure many subjects, one process each, and add them to a dataset."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from remora.api.problem import find_optimizer
from remora.api.profiling.job import ProfileJob, job_values
from remora.api.profiling.journal import Journal, is_step
from remora.api.profiling.measuring import local_setting
from remora.api.rank_processes import Ended, run_ranks
from remora.cost_models.dataset.records import Setting, Subject
from remora.cost_models.dataset.shard import read_shard, shard_name
from remora.errors import FileFormatError, InvalidInputError
from remora.report.files import write_json
from remora.simulator.records import Measurement

__all__ = ["Collected", "Done", "ProfileRequest", "collect"]

_WORKER = "remora.api.profiling.worker"
_DEATHS = 3
"""So often in a row a process may die without anything new. A schedule counts as failed after
two."""


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure and where it goes.

    Attributes:
        subjects: models, sizes, batches and dtypes.
        dataset: folder of the shards.
        schedules: schedules per subject, keep-all among them.
        repetitions: timed steps per schedule and pass (there are two), and runs per unit kind.
        optimizer: name of the optimizer, or None.
        threads: of PyTorch; None leaves them.
        seed: of weights, schedules and the order of the subjects.
        round: number of the pass; another number measures the same subjects again.
        part, parts: this process takes every ``parts``-th subject, beginning with ``part``.
        subject_time_limit_s: seconds after which a process is ended.
        time_limit_s: no subject is begun later; None for no limit.
    """

    subjects: tuple[Subject, ...]
    dataset: Path
    schedules: int = 6
    repetitions: int = 7
    optimizer: str | None = "adamw"
    threads: int | None = 1
    seed: int = 0
    round: int = 0
    part: int = 0
    parts: int = 1
    subject_time_limit_s: float = 600.0
    time_limit_s: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        least = {"schedules": 1, "repetitions": 3, "seed": 0, "round": 0, "parts": 1, "part": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value < smallest:
                raise InvalidInputError(f"{name} is {value}, allowed: {smallest} or more")
        if self.part >= self.parts:
            raise InvalidInputError(
                f"part is {self.part}, allowed with parts={self.parts}: 0 to {self.parts - 1}"
            )
        if self.threads is not None and self.threads < 1:
            raise InvalidInputError(f"threads is {self.threads}, allowed: 1 or more, or null")
        for name in ("subject_time_limit_s", "time_limit_s"):
            limit_s = getattr(self, name)
            if limit_s is not None and not limit_s > 0:
                raise InvalidInputError(f"{name} is {limit_s}, allowed: seconds above 0")
        find_optimizer(self.optimizer)


@dataclass(frozen=True)
class Done:
    """One subject that is through.

    Attributes:
        subject: which.
        shard: its file; empty if it failed.
        words: what was measured, or why not.
        number, total: how many are through, of how many.
        left_s: seconds that the others will take, by those so far.
    """

    subject: Subject
    shard: str
    words: str
    number: int
    total: int
    left_s: float


@dataclass(frozen=True)
class Collected:
    """What a collection came to.

    Attributes:
        measured: shards that are new.
        skipped: number of subjects that were there.
        failed: sentences about subjects that could not be measured.
        not_begun: number of subjects left out for lack of time.
    """

    measured: tuple[str, ...]
    skipped: int
    failed: tuple[str, ...]
    not_begun: int


@dataclass
class _Tally:
    measured: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def collect(
    request: ProfileRequest, watch: Callable[[Done], None] = lambda done: None
) -> Collected:
    """Measure every subject of the request that the dataset does not have.

    The device is described once; its rates are in the cache for the processes that follow.

    Raises:
        UsageError: a value is not allowed.
        KeyboardInterrupt: what was measured is in the dataset or in a journal beside it, and the
            same call goes on from there.
    """
    began_s = time.monotonic()
    setting = local_setting(request.threads)
    mine = _order(request)[request.part :: request.parts]
    todo = [subject for subject in mine if not _is_there(request, setting, subject)]
    tally, begun = _Tally(), 0
    for number, subject in enumerate(todo):
        elapsed_s = time.monotonic() - began_s
        if request.time_limit_s is not None and elapsed_s > request.time_limit_s:
            break
        begun += 1
        shard, words = _measure(request, setting, subject)
        if shard:
            tally.measured.append(shard)
        else:
            tally.failed.append(f"{_name(subject)}: {words}")
        each_s = (time.monotonic() - began_s) / (number + 1)
        left_s = each_s * (len(todo) - number - 1)
        watch(Done(subject, shard, words, number + 1, len(todo), left_s))
    return Collected(
        measured=tuple(tally.measured),
        skipped=len(mine) - len(todo),
        failed=tuple(tally.failed),
        not_begun=len(todo) - begun,
    )


def _order(request: ProfileRequest) -> Sequence[Subject]:
    """All subjects, mixed, so that a drift of the machine and an early end meet all alike."""
    subjects = sorted(request.subjects, key=lambda subject: subject.key)
    Random(request.seed).shuffle(subjects)
    return subjects


def _is_there(request: ProfileRequest, setting: Setting, subject: Subject) -> bool:
    """Whether the dataset has this run; one that cannot be read is measured again."""
    path = request.dataset / shard_name(subject, setting, request.round)
    if not path.exists():
        return False
    try:
        read_shard(path)
    except FileFormatError:
        return False
    return True


def _measure(request: ProfileRequest, setting: Setting, subject: Subject) -> tuple[str, str]:
    """Return the shard and what is in it, or an empty name and the reason why there is none."""
    name = shard_name(subject, setting, request.round)
    journal = request.dataset / "unfinished" / f"{name}.jsonl"
    job = ProfileJob(
        subject=subject,
        folder=request.dataset,
        schedules=request.schedules,
        repetitions=request.repetitions,
        optimizer=find_optimizer(request.optimizer).name,
        threads=request.threads,
        seed=request.seed,
        round=request.round,
    )
    known, deaths = -1, 0
    while True:
        ended, answer = _run(job, journal, request.subject_time_limit_s)
        if answer is not None:
            _forget(journal)
            return _told(answer)
        done = _after_death(journal, ended)
        deaths = deaths + 1 if done == known else 1
        known = done
        if deaths == _DEATHS:
            _forget(journal)
            return "", ended.detail or "the process ended without an answer"


def _told(answer: dict[str, Any]) -> tuple[str, str]:
    if "error" in answer:
        return "", " ".join([answer["error"], *map(str.strip, answer["own_error"])])
    return answer["shard"], f"{answer['units']} units, {answer['ran']} steps"


def _after_death(path: Path, ended: Ended) -> int:
    """Note a schedule that processes died of twice as failed; returns how many items are done."""
    journal = Journal(path)
    item = journal.open_item()
    if item is not None and is_step(item) and journal.attempts(item) > 1:
        status = "crashed" if ended.status == "ok" else ended.status
        journal.done(item, asdict(Measurement(0.0, (), 0, "", status, ended.detail)))
    return journal.num_done


def _run(
    job: ProfileJob, journal: Path, time_limit_s: float
) -> tuple[Ended, dict[str, Any] | None]:
    with tempfile.TemporaryDirectory(prefix="remora-") as folder:
        told, answer = Path(folder) / "job.json", Path(folder) / "answer.json"
        write_json(told, job_values(job))
        ended = run_ranks(_WORKER, [str(told), str(journal), str(answer)], 1, time_limit_s)
        return ended, json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None


def _forget(journal: Path) -> None:
    journal.unlink(missing_ok=True)
    if journal.parent.exists() and not any(journal.parent.iterdir()):
        journal.parent.rmdir()


def _name(subject: Subject) -> str:
    return f"{subject.model} batch {subject.batch} {subject.dtype} ({subject.key})"
