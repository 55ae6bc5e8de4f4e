"""Predictions beside measurements, kept one by one, so that any figure can be made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remora.cost_models.evaluation import Judged
from remora.errors import FileFormatError

__all__ = [
    "Judgement",
    "StepPoint",
    "UnitPoint",
    "append_judgements",
    "points_of",
    "read_judgements",
]


@dataclass(frozen=True, slots=True)
class UnitPoint:
    """One kind of unit: seconds of forward and backward."""

    family: str
    predicted_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class StepPoint:
    """One step: seconds, bytes, and the bound on them.

    Attributes:
        subject: steps that share it are schedules of one graph.
    """

    family: str
    subject: str
    predicted_s: float
    measured_s: float
    predicted_bytes: int
    bound_bytes: int
    measured_bytes: int


@dataclass(frozen=True)
class Judgement:
    """One method on the runs that one split keeps from it.

    Attributes:
        method: name of the cost model.
        seed: of split and training.
        left_out: the family it has not seen.
        training_s: seconds of its training, 0 where that was not timed by itself.
        training_cpu_s: the same of all its threads together, which other processes change less.
        units, steps: of the left-out family, and of held-out runs of the other families.
    """

    method: str
    seed: int
    left_out: str
    training_s: float
    training_cpu_s: float
    units: tuple[UnitPoint, ...]
    steps: tuple[StepPoint, ...]

    @property
    def key(self) -> tuple[str, int, str]:
        """Method, seed and family."""
        return self.method, self.seed, self.left_out


def points_of(judged: Judged) -> tuple[tuple[UnitPoint, ...], tuple[StepPoint, ...]]:
    """Plain figures of a judgement."""
    units = tuple(UnitPoint(u.family, u.predicted_s, u.measured_s) for u in judged.units)
    steps = tuple(
        StepPoint(
            family=example.family,
            subject=example.subject,
            predicted_s=float(judged.steps.step_time_s[place]),
            measured_s=example.row.step_time_s,
            predicted_bytes=int(judged.steps.peak_bytes[place]),
            bound_bytes=int(judged.steps.bound_bytes[place]),
            measured_bytes=example.row.peak_memory_bytes,
        )
        for place, example in enumerate(judged.examples)
    )
    return units, steps


def append_judgements(path: Path, judgements: Sequence[Judgement]) -> None:
    """Add lines of JSON to a file at once; it is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(asdict(one)) + "\n" for one in judgements))


def read_judgements(path: Path) -> list[Judgement]:
    """Read the lines of a file; none if there is no file, a last one cut short is left out.

    Raises:
        FileFormatError: a line is no judgement.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    whole, rest = lines[:-1], lines[-1]
    if rest:
        path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
    try:
        return [_judgement(json.loads(line)) for line in whole]
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"{path} has a line that is no judgement: {error}") from error


def _judgement(values: dict[str, Any]) -> Judgement:
    units: Sequence[dict[str, Any]] = values.pop("units")
    steps: Sequence[dict[str, Any]] = values.pop("steps")
    return Judgement(
        **values,
        units=tuple(UnitPoint(**unit) for unit in units),
        steps=tuple(StepPoint(**step) for step in steps),
    )
