"""``remora train-cost-model``: train a cost model on profiled runs, judge it, and save it."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from remora.cli.console import output, print_files, print_line, progress_shown
from remora.cli.request import folders_of, plain, without_none
from remora.cli.shown_tracker import ShownTracker
from remora.report.tables import cells_table
from remora.tracking.registry import create

__all__ = ["quality_cells", "run"]


def run(config: DictConfig) -> float:
    """Train as the configuration says; the model goes to ``cost_model/`` in the folder ``out``.

    Returns:
        Median unit error plus median step error on held-out runs, for sweepers.

    Raises:
        UsageError: a value is not allowed, or there is nothing to resume from.
    """
    from remora.api.train_cost_model import TrainCostModelConfig, train_cost_model, training_config

    values = plain(config)
    tracker_values = dict(values["tracker"])
    tracker = create(tracker_values.pop("name"), **tracker_values)
    chosen = TrainCostModelConfig(
        datasets=folders_of("dataset", values["dataset"]),
        training=training_config(without_none(values["training"])),
        held_out_share=config.held_out_share,
        leave_out=config.leave_out,
    )
    command = " ".join(["remora", *sys.argv[1:]])
    with progress_shown() as progress:
        progress.stage("reading the dataset")
        shown = ShownTracker(tracker, progress, ("op/op_loss", "step/step_loss"))
        trained = train_cost_model(chosen, Path(config.out), shown, config.resume, command)
    console = output()
    for fault in trained.faults:
        print_line(console, f"skipped: {fault}")
    console.print(cells_table(*quality_cells(trained.rows)))
    print_line(console)
    pictures = [Path(config.out) / name for name in ("units.png", "steps.png", "bounds.png")]
    print_files(console, [trained.path, *pictures])
    return trained.figure


def quality_cells(
    rows: tuple[tuple[Any, ...], ...],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table of figures by family."""
    header = ("family", "units", "error", "steps", "error", "tau", "peak", "covered", "width")
    kinds = ("text", "count", "%", "count", "%", "real", "%", "%", "%")
    return header, [tuple(map(_cell, row, kinds)) for row in rows]


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "-"
    if kind == "%":
        return f"{value:.1%}"
    return f"{value:.2f}" if kind == "real" else str(value)
