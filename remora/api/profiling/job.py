"""What the process that measures one subject is told, as a record and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remora.cost_models.dataset.records import Subject

__all__ = ["ProfileJob", "job_from_values", "job_values"]


@dataclass(frozen=True)
class ProfileJob:
    """One subject and how to measure it.

    Attributes:
        subject: what is measured.
        folder: of the dataset.
        schedules: how many schedules run.
        repetitions: timed steps per schedule and pass (there are two), and runs per unit kind.
        optimizer: name of the optimizer.
        threads: of PyTorch; None leaves them.
        seed: of weights and schedules.
        round: number of the pass.
    """

    subject: Subject
    folder: Path
    schedules: int
    repetitions: int
    optimizer: str
    threads: int | None
    seed: int
    round: int


def job_values(job: ProfileJob) -> dict[str, Any]:
    """Return the job as plain values."""
    return {**asdict(job), "folder": str(job.folder)}


def job_from_values(values: Mapping[str, Any]) -> ProfileJob:
    """Read what :func:`job_values` returned."""
    subject = Subject(**values["subject"])
    return ProfileJob(**{**values, "subject": subject, "folder": Path(values["folder"])})
