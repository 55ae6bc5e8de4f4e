"""Training a cost model from a configuration: dataset, networks, judgement, files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remora.api.provenance import provenance
from remora.api.records import record
from remora.cost_models.dataset.dataset import Dataset, read_dataset
from remora.cost_models.dataset.split import Split, hold_out, leave_family_out
from remora.errors import FileFormatError, InvalidInputError
from remora.report.files import write_bytes
from remora.report.scatter_picture import Points, bounds_png, scatter_png
from remora.tracking.tracker import tracked

if TYPE_CHECKING:
    from remora.cost_models.evaluation import Judged
    from remora.cost_models.gnn.training import CostModelConfig
    from remora.tracking.tracker import Tracker

__all__ = [
    "COST_MODEL_FOLDER",
    "QUALITY_COLUMNS",
    "TrainCostModelConfig",
    "TrainedCostModel",
    "quality_rows",
    "train_cost_model",
    "training_config",
]

COST_MODEL_FOLDER = "cost_model"
_CHECKPOINTS = "checkpoints"
_PACKAGES = ("torch", "torch-geometric", "numpy")
ALL = "all"

QUALITY_COLUMNS = (
    "family",
    "units",
    "unit_error",
    "steps",
    "step_error",
    "kendall_tau",
    "peak_error",
    "covered",
    "bound_width",
)
"""Figures of a judgement by family: counts, median errors, order, coverage and mean width."""


@dataclass(frozen=True)
class TrainCostModelConfig:
    """Everything a training run depends on.

    Attributes:
        datasets: folders of profiled runs.
        held_out_share: share of every family's subjects that the model is judged by.
        leave_out: a family to be judged by instead; it is not learned from at all.
        training: of the networks.
    """

    datasets: tuple[Path, ...]
    training: CostModelConfig
    held_out_share: float = 0.15
    leave_out: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return {**asdict(self), "datasets": [str(path) for path in self.datasets]}


@dataclass(frozen=True)
class TrainedCostModel:
    """What a training run leaves behind.

    Attributes:
        path: folder of the cost model.
        card: where it comes from and how good it is.
        rows: a judgement by family, and of all; see :data:`QUALITY_COLUMNS`.
        faults: sentences about shards that were skipped.
    """

    path: Path
    card: Mapping[str, Any]
    rows: tuple[tuple[Any, ...], ...]
    faults: tuple[str, ...] = field(default=())

    @property
    def figure(self) -> float:
        """Median unit error plus median step error: what a sweep minimises."""
        values = dict(zip(QUALITY_COLUMNS, self.rows[-1], strict=True))
        return float(values["unit_error"] + values["step_error"])


def training_config(values: Mapping[str, Any] | None = None) -> CostModelConfig:
    """Return how to train from plain values: ``seed``, ``folds``, and the sections op and step.

    Raises:
        UnknownNameError: an unknown key; the message names the closest ones.
        InvalidInputError: a value is not allowed.
    """
    from remora.cost_models.gnn.op_training import OpTrainingConfig
    from remora.cost_models.gnn.step_training import StepTrainingConfig
    from remora.cost_models.gnn.training import CostModelConfig

    plain = dict(values or {})
    op = record(OpTrainingConfig, "training.op", plain.pop("op", None) or {})
    step = record(StepTrainingConfig, "training.step", plain.pop("step", None) or {})
    return record(CostModelConfig, "training", {**plain, "op": op, "step": step})


def train_cost_model(
    config: TrainCostModelConfig,
    out: Path,
    tracker: Tracker,
    resume: bool = False,
    command: str = "",
) -> TrainedCostModel:
    """Train a cost model, judge it by runs that were held out, and save it.

    Args:
        config: what to do.
        out: folder; the model goes to ``cost_model/``, what to resume from to ``checkpoints/``
            while it is needed, pictures beside them.
        tracker: not started yet; finished also when the training crashes.
        resume: go on from the checkpoints; the result is that of one uninterrupted run.
        command: the command line, for the card.

    Raises:
        FileFormatError: a folder has no runs, or there is nothing to resume from.
        InvalidInputError: a family has too few runs, or an earlier training lies in ``out``.
    """
    from remora.cost_models.evaluation import judge
    from remora.cost_models.gnn.training import train_cost_model as train
    from remora.cost_models.gnn.weights import save_cost_model

    checkpoints = out / _CHECKPOINTS
    _check_checkpoints(checkpoints, resume)
    dataset = read_dataset(*config.datasets)
    teaching, judging = _split(dataset, config)
    path = out / COST_MODEL_FOLDER
    with tracked(tracker, config.as_dict()):
        for folder in config.datasets:
            tracker.log_artifact("profiled_runs", "dataset", folder)
        model = train(teaching, config.training, tracker.log_metrics, checkpoints)
        judged = judge(model, judging)
        rows = quality_rows(judged)
        card = _card(config, dataset, rows, command)
        save_cost_model(path, model, card)
        tracker.log_table("quality", QUALITY_COLUMNS, rows)
        for name, picture in _pictures(judged).items():
            write_bytes(out / name, picture)
            tracker.log_picture(Path(name).stem, out / name)
        tracker.log_artifact("cost_model", "cost_model", path)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return TrainedCostModel(path, card, rows, dataset.faults)


def quality_rows(judged: Judged) -> tuple[tuple[Any, ...], ...]:
    """Return figures by family and, last, of all families together."""
    by_family = judged.step_errors_by_family()
    families = sorted({unit.family for unit in judged.units} | by_family.keys())
    overall = judged.step_errors()
    return tuple(
        _quality_row(name, judged, by_family.get(name) if name != ALL else overall)
        for name in (*families, ALL)
    )


def _quality_row(family: str, judged: Judged, steps: Any) -> tuple[Any, ...]:
    only = None if family == ALL else family
    units = sum(only in (None, unit.family) for unit in judged.units)
    nan = float("nan")
    figures = (0, nan, nan, nan, nan, nan)
    if steps is not None:
        figures = (
            steps.count,
            steps.step_error,
            steps.tau,
            steps.peak_error,
            steps.coverage.share,
            steps.coverage.mean_width,
        )
    return (family, units, judged.unit_error(only), *figures)


def _check_checkpoints(folder: Path, resume: bool) -> None:
    found = folder.exists() and any(folder.iterdir())
    if found and not resume:
        raise InvalidInputError(
            f"out is {str(folder.parent)!r}, which has an unfinished training; allowed: another "
            "folder, or resume=true"
        )
    if resume and not found:
        raise FileFormatError(f"there is no training to resume in {folder.parent}")


def _split(dataset: Dataset, config: TrainCostModelConfig) -> Split:
    if config.leave_out is not None:
        return leave_family_out(dataset.runs, config.leave_out)
    return hold_out(dataset.runs, config.held_out_share, config.training.seed)


def _card(
    config: TrainCostModelConfig, dataset: Dataset, rows: Sequence[tuple[Any, ...]], command: str
) -> dict[str, Any]:
    runs = dataset.runs
    return {
        "data": {
            "runs": len(runs),
            "units": sum(len(run.units) for run in runs),
            "steps": sum(len(run.steps) for run in runs),
            "families": sorted({run.subject.family for run in runs}),
            "devices": sorted({run.setting.name for run in runs}),
            "versions": sorted({f"torch {run.setting.torch}" for run in runs}),
        },
        "held_out": config.leave_out or f"{config.held_out_share:.0%} of every family's subjects",
        "training": asdict(config.training),
        "quality": {
            row[0]: {
                key: _plain_number(value)
                for key, value in zip(QUALITY_COLUMNS[1:], row[1:], strict=True)
            }
            for row in rows
        },
        **provenance(command, _PACKAGES),
    }


def _plain_number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _pictures(judged: Judged) -> dict[str, bytes]:
    units = Points(
        tuple(unit.family for unit in judged.units),
        tuple(unit.measured_s for unit in judged.units),
        tuple(unit.predicted_s for unit in judged.units),
    )
    families = tuple(example.family for example in judged.examples)
    peaks = tuple(float(example.row.peak_memory_bytes) for example in judged.examples)
    steps = Points(
        families,
        tuple(example.row.step_time_s for example in judged.examples),
        tuple(judged.steps.step_time_s.tolist()),
    )
    bounds = Points(families, peaks, tuple(judged.steps.bound_bytes.tolist()))
    return {
        "units.png": scatter_png(units, "seconds of a unit"),
        "steps.png": scatter_png(steps, "seconds of a step"),
        "bounds.png": bounds_png(bounds),
    }
