"""How good a cost model is on runs it has not seen: units, steps, order, peaks and their bound."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.gnn.cost_model import GnnCostModel
from remora.cost_models.gnn.op_evaluation import UnitError, unit_errors
from remora.cost_models.gnn.op_threads import one_thread
from remora.cost_models.gnn.step_evaluation import StepErrors, evaluate_by_family, evaluate_steps
from remora.cost_models.gnn.step_examples import StepExample, step_examples
from remora.cost_models.gnn.step_model import Corrected

__all__ = ["Judged", "families_of", "judge"]


@dataclass(frozen=True)
class Judged:
    """Predictions of one cost model beside measurements.

    Attributes:
        units: one per distinct kind of unit.
        examples: measured steps.
        steps: predicted ones, in the same order.
    """

    units: tuple[UnitError, ...]
    examples: tuple[StepExample, ...]
    steps: Corrected

    def unit_error(self, family: str | None = None) -> float:
        """Median of |predicted / measured - 1| over kinds of units; NaN if there are none."""
        errors = [abs(unit.error) for unit in self.units if family in (None, unit.family)]
        return statistics.median(errors) if errors else float("nan")

    def step_errors(self) -> StepErrors | None:
        """Figures of all steps together; None if there are none."""
        return evaluate_steps(self.examples, self.steps) if self.examples else None

    def step_errors_by_family(self) -> Mapping[str, StepErrors]:
        """Figures of the steps of every family."""
        return evaluate_by_family(self.examples, self.steps)


def judge(model: GnnCostModel, runs: Sequence[ProfiledRun]) -> Judged:
    """Predict everything that was measured in runs."""
    # Units are so small that a second thread only waits.
    with one_thread():
        examples = step_examples(
            runs,
            lambda run: model.costs(run.graph, run.setting.hardware, run.measurements.optimizer),
        )
        return Judged(
            units=tuple(unit_errors(model.op_model, runs)),
            examples=tuple(examples),
            steps=model.step_model.predict(examples),
        )


def families_of(runs: Sequence[ProfiledRun]) -> tuple[str, ...]:
    """Names of the families of some runs, sorted."""
    return tuple(sorted({run.subject.family for run in runs}))
