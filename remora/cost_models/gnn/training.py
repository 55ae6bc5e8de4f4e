"""One training of the whole cost model: operators, then what the simulator leaves over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.gnn.cost_model import GnnCostModel
from remora.cost_models.gnn.left_out_peaks import left_out_peaks
from remora.cost_models.gnn.op_encoder import UnitEncoder
from remora.cost_models.gnn.op_model import OpTrainingConfig, fit_op_model
from remora.cost_models.gnn.op_threads import one_thread
from remora.cost_models.gnn.op_training import Watch
from remora.cost_models.gnn.step_examples import StepExample, step_examples
from remora.cost_models.gnn.step_model import fit_step_model
from remora.cost_models.gnn.step_training import StepTrainingConfig
from remora.errors import InvalidInputError
from remora.schedule.problem import CostTable

__all__ = [
    "CostModelConfig",
    "cross_fitted_examples",
    "fold_of",
    "train_cost_model",
    "train_on_examples",
]


@dataclass(frozen=True, slots=True)
class CostModelConfig:
    """Everything a training depends on, apart from the runs.

    Attributes:
        seed: of everything; takes the place of the seeds below.
        folds: parts that the runs are cut into, so that corrections of the simulator are learned
            on operator times of models that were not seen, as they will be used.
        op: of the operator networks.
        step: of the networks that correct the simulator.
    """

    seed: int = 0
    folds: int = 2
    op: OpTrainingConfig = field(default_factory=OpTrainingConfig)
    step: StepTrainingConfig = field(default_factory=StepTrainingConfig)

    def __post_init__(self) -> None:
        """Check the number of folds."""
        if self.folds < 2:
            raise InvalidInputError(f"training.folds is {self.folds}, allowed: 2 or more")


def train_cost_model(
    runs: Sequence[ProfiledRun],
    config: CostModelConfig,
    watch: Watch | None = None,
    checkpoints: Path | None = None,
) -> GnnCostModel:
    """Train on profiled runs; the same runs and configuration give the same model.

    Args:
        runs: with measured units and steps.
        config: how.
        watch: is told losses; its steps count on from one part to the next.
        checkpoints: folder from which an interrupted training goes on, with the same result.

    Raises:
        InvalidInputError: there are too few runs.
        FileFormatError: a checkpoint is broken or belongs to another training.
    """
    counter = _Counter(watch)
    encoder = UnitEncoder()
    examples = cross_fitted_examples(runs, config, counter.part("fold"), checkpoints, encoder)
    return train_on_examples(
        runs, examples, config, counter.part("op"), counter.part("step"), checkpoints, encoder
    )


def cross_fitted_examples(
    runs: Sequence[ProfiledRun],
    config: CostModelConfig,
    watch: Watch | None = None,
    checkpoints: Path | None = None,
    encoder: UnitEncoder | None = None,
) -> list[StepExample]:
    """Simulate all steps under operator times of networks that did not see their subject.

    Cross-fitting: Chernozhukov et al. 2018, https://arxiv.org/abs/1608.00060. The arguments are
    those of :func:`train_cost_model`, and what remembers units that were encoded before.
    """
    encoder = encoder or UnitEncoder()
    # Units are so small that a second thread only waits, here and below.
    with one_thread():
        tables = _cross_fitted_tables(runs, config, watch, checkpoints, encoder)
    return step_examples(runs, lambda run: tables[id(run)])


def train_on_examples(
    runs: Sequence[ProfiledRun],
    examples: Sequence[StepExample],
    config: CostModelConfig,
    op_watch: Watch | None = None,
    step_watch: Watch | None = None,
    checkpoints: Path | None = None,
    encoder: UnitEncoder | None = None,
) -> GnnCostModel:
    """Train operators on runs and the rest on examples of :func:`cross_fitted_examples`."""
    encoder = encoder or UnitEncoder()
    op_config = replace(config.op, seed=config.seed)
    step_config = replace(config.step, seed=config.seed)
    op_model = fit_op_model(runs, op_config, op_watch, _file(checkpoints, "op"), encoder)
    with one_thread():
        peaks = left_out_peaks(runs, examples, config.seed, encoder)
        file = _file(checkpoints, "step")
        step_model = fit_step_model(examples, step_config, step_watch, file, peaks)
    return GnnCostModel(op_model, step_model)


def fold_of(runs: Sequence[ProfiledRun], folds: int) -> dict[str, int]:
    """Deal the subjects of every family out to folds, one after the other.

    Returns:
        Fold by key of the subject.
    """
    dealt: dict[str, int] = {}
    names = sorted({(run.subject.family, run.subject.model, run.subject.key) for run in runs})
    for number, (_, _, key) in enumerate(names):
        dealt[key] = number % folds
    return dealt


def _cross_fitted_tables(
    runs: Sequence[ProfiledRun],
    config: CostModelConfig,
    watch: Watch | None,
    checkpoints: Path | None,
    encoder: UnitEncoder,
) -> dict[int, CostTable]:
    """Cost table of every run, by its identity, from a network that did not see its subject."""
    folds = fold_of(runs, config.folds)
    # On part of the runs a network learns in less time what can be learned there.
    epochs = max(1, config.op.epochs // 2)
    op_config = replace(config.op, seed=config.seed, members=1, epochs=epochs)
    tables: dict[int, CostTable] = {}
    for fold in range(config.folds):
        inside, others = _apart(runs, folds, fold)
        if not inside:
            continue
        file = _file(checkpoints, f"fold{fold}")
        model = fit_op_model(others, op_config, watch, file, encoder)
        for run in inside:
            tables[id(run)] = model.costs(
                run.graph, run.setting.hardware, run.measurements.optimizer, encoder
            )
    return tables


def _apart(
    runs: Sequence[ProfiledRun], folds: Mapping[str, int], fold: int
) -> tuple[list[ProfiledRun], list[ProfiledRun]]:
    """Runs of a fold, and the others without the kinds of units that occur in the fold."""
    inside = [run for run in runs if folds[run.subject.key] == fold]
    kinds = {row.kind for run in inside for row in run.units}
    others = [
        replace(run, units=tuple(row for row in run.units if row.kind not in kinds))
        for run in runs
        if folds[run.subject.key] != fold
    ]
    return inside, others


class _Counter:
    """Gives the parts of a training one row of steps, so that curves lie side by side."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch
        self._step = 0

    def part(self, name: str) -> Watch:
        """Watch for one part; names of its metrics begin with that of the part."""

        def tell(metrics: Mapping[str, float], step: int) -> None:
            self._step += 1
            if self._watch is not None:
                self._watch({f"{name}/{key}": value for key, value in metrics.items()}, self._step)

        return tell


def _file(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / f"{name}.checkpoint"
