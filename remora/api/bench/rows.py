"""One line of JSON per run, appended as soon as it is there, so that a killed bench goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from remora.errors import FileFormatError

__all__ = ["Row", "RowKey", "append_row", "read_rows"]

RowKey = tuple[str, str, int | None, float]
"""Digest of the problem in its suite, label of the method, seed, time limit in seconds."""


@dataclass(frozen=True)
class Row:
    """What one run of a method on a problem came to.

    Attributes:
        problem: name in the suite.
        digest: of its values there.
        problem_hash: see :func:`remora.api.bench.build.problem_hash`.
        model, hardware, world_size, micro_batches, range: of the problem.
        method: label of the method.
        seed: None where the method has none.
        time_limit_s: seconds that it was given.
        feasible: whether its schedule fits; False where it has none.
        step_time_s: simulated; None without a schedule.
        peak_bytes: simulated peak of the fullest rank; None without a schedule.
        search_s: seconds that it took, tables of the problem included.
        lower_bound_s: no schedule of the problem is faster; None where it is not known.
        best_known_s: step time of the best schedule known before the run, simulated again; None
            where none is.
        note: why there is no schedule, or what is odd about it.
    """

    problem: str
    digest: str
    problem_hash: str
    model: str
    hardware: str
    world_size: int
    micro_batches: int | None
    range: float
    method: str
    seed: int | None
    time_limit_s: float
    feasible: bool
    step_time_s: float | None
    peak_bytes: int | None
    search_s: float
    lower_bound_s: float | None
    best_known_s: float | None
    note: str = ""

    @property
    def key(self) -> RowKey:
        """What makes it the answer to the same question."""
        return (self.digest, self.method, self.seed, self.time_limit_s)


def append_row(path: Path, row: Row) -> None:
    """Add a row to a file, which is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        # A run killed in the middle of a row leaves it without an end.
        file.seek(0, 2)
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(asdict(row)).encode() + b"\n")


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Read the rows of a file; none if there is no file.

    Returns:
        Rows, and a sentence for every line that is not one, such as one cut short by a kill.

    Raises:
        FileFormatError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"the file of rows {path} cannot be read: {error}") from error
    rows, faults = [], []
    for number, line in enumerate(lines, 1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif line:
            faults.append(f"{path} line {number} is no row and is left out")
    return rows, faults


def _row(line: str) -> Row | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    names = {field.name for field in fields(Row)}
    if not isinstance(values, dict) or set(values) != names:
        return None
    return Row(**values)
