"""Steps that were measured while planning, as rows of a dataset of profiled runs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from remora.api.model_source import ModelSource
from remora.cost_models.dataset.families import family_of
from remora.cost_models.dataset.records import ProfiledRun, Setting, StepRow, Subject
from remora.cost_models.dataset.shard import shard_name, write_shard
from remora.hardware.local import device_name
from remora.hardware.measurements import Measurements, Overheads
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.schedule.serialize import schedule_to_json
from remora.simulator.records import Measurement

__all__ = ["append_steps", "step_row"]


def step_row(problem: Problem, schedule: Schedule, label: str, measurement: Measurement) -> StepRow:
    """Return a measured step as a row.

    Args:
        problem: what was planned.
        schedule: what ran.
        label: how it was found.
        measurement: what it showed.
    """
    return StepRow(
        label=label,
        schedule_json=schedule_to_json(schedule),
        optimizer=problem.optimizer.name,
        status=measurement.status,
        detail=measurement.detail,
        step_times_s=measurement.step_times_s,
        peak_memory_bytes=measurement.peak_memory_bytes,
    )


def append_steps(
    folder: Path, problem: Problem, source: ModelSource, steps: Sequence[StepRow]
) -> Path:
    """Add steps of one model to a dataset, as a round of its own.

    Nothing is said of its operators: a training takes only the steps.

    Args:
        folder: of the dataset; made if missing.
        problem: what was planned, on the machine at hand.
        source: how the model is built.
        steps: one or more.

    Returns:
        The new shard.
    """
    import torch

    values = dict(source.values)
    subject = Subject(
        family=family_of(source.target),
        model=source.target.rpartition(":")[2],
        target=source.target,
        values=values,
        batch=int(values.get("batch", 1)),
        dtype=str(values.get("dtype", "float32")),
    )
    setting = Setting(
        hardware=replace(problem.hardware, state=None),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        python=platform.python_version(),
        machine=device_name(),
    )
    run = ProfiledRun(
        subject=subject,
        setting=setting,
        graph=problem.graph,
        measurements=Measurements({}, {}, Overheads(0.0, 0.0), 0.0),
        steps=tuple(steps),
        round=_free_round(folder, subject, setting),
    )
    return write_shard(folder, run)


def _free_round(folder: Path, subject: Subject, setting: Setting) -> int:
    number = 0
    while (folder / shard_name(subject, setting, number)).exists():
        number += 1
    return number
