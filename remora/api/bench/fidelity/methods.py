"""The learned cost model and what it is compared with, trained and judged on one split."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from remora.api.bench.fidelity.points import Judgement, points_of
from remora.cost_models.baselines.end_to_end import EndToEndConfig, fit_end_to_end
from remora.cost_models.baselines.fitted_roofline import Roofline, fit_roofline
from remora.cost_models.baselines.step_trees import fit_step_trees
from remora.cost_models.baselines.trees import fit_trees
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.dataset.split import Split
from remora.cost_models.evaluation import Judged, judge
from remora.cost_models.gnn.op_constants import fit_constants
from remora.cost_models.gnn.op_costs import predicted_costs
from remora.cost_models.gnn.op_encoder import UnitEncoder
from remora.cost_models.gnn.op_evaluation import UnitError, unit_errors
from remora.cost_models.gnn.op_times import OpTimePredictor
from remora.cost_models.gnn.step_evaluation import simulated
from remora.cost_models.gnn.step_examples import step_examples
from remora.cost_models.gnn.training import (
    CostModelConfig,
    cross_fitted_examples,
    train_on_examples,
)
from remora.cost_models.profiled import profiled_costs
from remora.cost_models.roofline import roofline_costs
from remora.schedule.problem import CostTable

__all__ = ["BASELINES", "GNN", "judgements"]

GNN = "gnn"
PROFILED, ROOFLINE, FITTED = "profiled", "roofline", "fitted roofline"
TREES, END_TO_END = "boosted trees", "end-to-end network"
BASELINES = (PROFILED, ROOFLINE, FITTED, TREES, END_TO_END)
"""``profiled`` has measured the operators of the very model that it is asked about."""

CostsOf = Callable[[ProfiledRun], CostTable]


def judgements(
    split: Split, config: CostModelConfig, left_out: str, baselines: bool
) -> Iterator[Judgement]:
    """Train on the runs that teach and predict those that judge, method by method.

    Args:
        split: runs that teach, runs that judge.
        config: of the learned model.
        left_out: name of the family that no run that teaches is of.
        baselines: whether to judge the others too.
    """
    teaching, judging = split
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    encoder = UnitEncoder()
    examples = cross_fitted_examples(teaching, config, encoder=encoder)
    model = train_on_examples(teaching, examples, config, encoder=encoder)
    took_s = (time.perf_counter() - began_s, time.process_time() - began_cpu_s)
    judged = judge(model, judging)

    def judgement(
        method: str, found: Judged, took_s: tuple[float, float] = (0.0, 0.0)
    ) -> Judgement:
        return Judgement(method, config.seed, left_out, *took_s, *points_of(found))

    yield judgement(GNN, judged, took_s)
    if not baselines:
        return
    yield judgement(PROFILED, _simulated((), judging, _profiled))
    yield judgement(ROOFLINE, _simulated(unit_errors(Roofline(), judging), judging, _roofline))
    yield judgement(FITTED, _fitted(teaching, judging))
    trees = unit_errors(fit_trees(teaching, config.seed), judging)
    step_trees = fit_step_trees(examples, config.seed)
    yield judgement(
        TREES, Judged(tuple(trees), judged.examples, step_trees.predict(judged.examples))
    )
    network = fit_end_to_end(examples, EndToEndConfig(seed=config.seed))
    yield judgement(END_TO_END, Judged((), judged.examples, network.predict(judged.examples)))


def _simulated(
    units: Sequence[UnitError], judging: Sequence[ProfiledRun], costs_of: CostsOf
) -> Judged:
    """The simulator alone, on some cost table."""
    examples = step_examples(judging, costs_of)
    return Judged(tuple(units), tuple(examples), simulated(examples))


def _fitted(teaching: Sequence[ProfiledRun], judging: Sequence[ProfiledRun]) -> Judged:
    roofline = fit_roofline(teaching)
    return _simulated(unit_errors(roofline, judging), judging, _with_constants(roofline, teaching))


def _with_constants(predictor: OpTimePredictor, teaching: Sequence[ProfiledRun]) -> CostsOf:
    constants = fit_constants(teaching)

    def costs_of(run: ProfiledRun) -> CostTable:
        hardware, optimizer = run.setting.hardware, run.measurements.optimizer
        told = predictor.op_times_s(run.graph, hardware)
        none = np.zeros(len(run.graph.ops), dtype=np.int64).tolist()
        return predicted_costs(
            run.graph,
            hardware,
            optimizer,
            told.times_s.tolist(),
            none,
            constants.get(hardware.device_type),
        )

    return costs_of


def _profiled(run: ProfiledRun) -> CostTable:
    return profiled_costs(run.graph, run.setting.hardware, run.measured)


def _roofline(run: ProfiledRun) -> CostTable:
    return roofline_costs(run.graph, run.setting.hardware, run.measurements.optimizer)
