"""The jobs of a multirun in one table: what each was given, and the figure that it ended with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remora.report.files import read_json, write_json, write_text

__all__ = ["SWEEP_NAME", "gathered", "write_job", "write_sweep"]

SWEEP_NAME = "sweep.md"

_JOB_NAME = "job.json"
_VERSION = 1


@dataclass(frozen=True)
class _Job:
    """One job: folder, arguments, and its figure; None for one that did not end well."""

    folder: str
    values: dict[str, str]
    figure: float | None


def write_job(folder: Path, overrides: Sequence[str], figure: float | None) -> None:
    """Write what a job was given and what came out.

    Args:
        folder: of the job.
        overrides: ``key=value`` arguments of the job alone.
        figure: that a sweeper minimises; None where the command has none.
    """
    values = {"version": _VERSION, "overrides": list(overrides), "figure": figure}
    write_json(folder / _JOB_NAME, values)


def gathered(folder: Path) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of all jobs of a sweep, the best figure first.

    Args:
        folder: of the sweep; every job has a numbered folder in it.

    Returns:
        The header has the arguments in which jobs differ; there are no rows without jobs.
    """
    numbered = [path for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]
    jobs = [_read(path) for path in sorted(numbered, key=lambda path: int(path.name))]
    jobs.sort(key=lambda job: (job.figure is None, job.figure or 0.0))
    keys = list(dict.fromkeys(key for job in jobs for key in job.values))
    varied = [key for key in keys if len({job.values.get(key) for job in jobs}) > 1]
    rows = [
        (
            job.folder,
            *(job.values.get(key, "-") for key in varied),
            "-" if job.figure is None else f"{job.figure:.6g}",
        )
        for job in jobs
    ]
    return ("job", *varied, "figure"), rows


def write_sweep(
    folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]], command: str
) -> Path:
    """Write the table as Markdown; returns the file."""
    lines = [f"`{command}`", "", _line(header), "|" + "---|" * len(header), *map(_line, rows)]
    path = folder / SWEEP_NAME
    write_text(path, "\n".join(lines) + "\n")
    return path


def _read(folder: Path) -> _Job:
    path = folder / _JOB_NAME
    if not path.is_file():
        return _Job(folder.name, {}, None)
    values = read_json(path, "job", _VERSION)
    pairs = dict(text.split("=", 1) for text in values["overrides"] if "=" in text)
    # Hydra escapes colons and the like in what it hands to jobs.
    plain = {key: value.replace("\\", "") for key, value in pairs.items()}
    return _Job(folder.name, plain, values["figure"])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
