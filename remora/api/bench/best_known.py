"""The best schedules known of every suite: stored, replaced by better ones, dropped when stale."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from remora.api.bench.task import KnownAnswer
from remora.errors import FileFormatError
from remora.report.files import read_json, write_text
from remora.tracking.artifacts import refuse_targets

__all__ = ["BestKnown", "best_known_path", "is_better", "read_best_known", "write_best_known"]

_VERSION = 1
_BETTER = 1e-9
"""Least share by which a better answer is faster: sums differ in their last digits."""


@dataclass(frozen=True)
class BestKnown:
    """The fastest schedule found so far for one problem.

    Attributes:
        problem_hash: of the problem that it answers.
        step_time_s: simulated.
        peak_bytes: simulated peak of the fullest rank.
        method, seed, time_limit_s: what found it.
        command: as typed.
        date: of that day, YYYY-MM-DD.
        versions: of what it was found with.
        schedule: see :func:`remora.api.bench.compact.compact_schedule`.
    """

    problem_hash: str
    step_time_s: float
    peak_bytes: int
    method: str
    seed: int | None
    time_limit_s: float
    command: str
    date: str
    versions: Mapping[str, str]
    schedule: Mapping[str, Any]

    @property
    def answer(self) -> KnownAnswer:
        """What a task checks."""
        return KnownAnswer(self.problem_hash, self.schedule)


def best_known_path(suite: str) -> Path:
    """The file that comes with the package."""
    return Path(str(files("remora.conf"))) / "suite" / "best_known" / f"{suite}.json"


def read_best_known(path: Path) -> dict[str, BestKnown]:
    """Read the answers of a suite by the name of their problem; none if there is no file.

    Raises:
        FileFormatError: the file is cut short, of another version or garbled.
    """
    if not path.exists():
        return {}
    values = read_json(path, "best known answers", _VERSION)
    refuse_targets(values, str(path))
    names = {field.name for field in fields(BestKnown)}
    answers = values.get("answers")
    if not isinstance(answers, dict):
        raise FileFormatError(f"{path} has no answers")
    for problem, answer in answers.items():
        if not isinstance(answer, dict) or set(answer) != names:
            raise FileFormatError(f"{path}: the answer to {problem!r} lacks or garbles a field")
    return {problem: BestKnown(**answer) for problem, answer in answers.items()}


def write_best_known(path: Path, suite: str, answers: Mapping[str, BestKnown]) -> None:
    """Write the answers of a suite whole or not at all: sorted, one on a line."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(asdict(answers[name]), separators=(',', ':'))}"
        for name in sorted(answers)
    )
    head = f'{{"version": {_VERSION}, "suite": {json.dumps(suite)}, "answers": {{'
    write_text(path, f"{head}\n{lines}\n}}}}\n")


def is_better(step_time_s: float, known_s: float | None) -> bool:
    """Whether a step time beats one that is known, and holds, by more than rounding."""
    return known_s is None or step_time_s < known_s * (1 - _BETTER)
