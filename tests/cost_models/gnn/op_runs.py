"""A few real profiled runs, and a small model trained on some of them."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.dataset.shard import read_shard
from remora.cost_models.gnn.op_model import OpTimeModel, fit_op_model
from remora.cost_models.gnn.op_training import OpTrainingConfig
from remora.graph.model_graph import ModelGraph

FOLDER = Path(__file__).parents[2] / "data" / "profiled_runs"
QUICK = OpTrainingConfig(members=2, epochs=3, batch_units=8, width=16, layers=1)


@functools.cache
def real_runs() -> tuple[ProfiledRun, ...]:
    """All runs of the folder, by model."""
    runs = [read_shard(path) for path in sorted(FOLDER.glob("*.parquet"))]
    return tuple(sorted(runs, key=lambda run: (run.subject.model, run.subject.batch)))


@functools.cache
def quick_model() -> OpTimeModel:
    """Hardly trained, on all runs."""
    return fit_op_model(real_runs(), QUICK)


def renamed(graph: ModelGraph, old: str, new: str) -> ModelGraph:
    """Return the graph with an operator of another name in the place of ``old``."""
    ops = tuple(replace(op, name=new) if op.name == old else op for op in graph.ops)
    return replace(graph, ops=ops)
