"""Checks of a run that was read: every figure must be one that can have been measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from remora.cost_models.dataset.records import OK, STATUSES, ProfiledRun, StepRow, UnitRow
from remora.errors import FileFormatError
from remora.graph.model_graph import Unit
from remora.hardware.measurements import Measurements

__all__ = ["check_run"]


def check_run(run: ProfiledRun, graph_hash: str) -> None:
    """Check that the figures belong to the graph and are possible.

    Args:
        run: as it was read.
        graph_hash: that its rows name.

    Raises:
        FileFormatError: they do not; the sentence names column, value and what is allowed.
    """
    if run.graph.content_hash != graph_hash:
        raise FileFormatError(
            f"graph_hash is {graph_hash}, but its graph has {run.graph.content_hash}"
        )
    _check_measurements(run.measurements)
    for row in run.units:
        _check_unit(row, run.graph.units)
    for step in run.steps:
        _check_step(step)


def _check_measurements(measurements: Measurements) -> None:
    for name, value in asdict(measurements.overheads).items():
        if not math.isfinite(value):
            raise FileFormatError(f"overhead {name} is {value}, allowed: a finite number")
    optimizer_s = measurements.optimizer_s
    if not (optimizer_s >= 0 and math.isfinite(optimizer_s)):
        raise FileFormatError(f"optimizer_s is {optimizer_s}, allowed: a number of at least 0")
    smallest_bytes = min(measurements.workspace_bytes.values(), default=0)
    if smallest_bytes < 0:
        raise FileFormatError(f"a workspace has {smallest_bytes} bytes, allowed: 0 or more")


def _check_unit(row: UnitRow, units: Sequence[Unit]) -> None:
    if row.kind not in {unit.kind for unit in units}:
        raise FileFormatError(f"unit_kind {row.kind} is not in its graph")
    if not 0 <= row.unit < len(units) or units[row.unit].kind != row.kind:
        raise FileFormatError(f"unit is {row.unit}, allowed: one of the kind {row.kind}")
    unit = units[row.unit]
    forward, backward = row.runs.forward_op_s, row.runs.backward_op_s
    _check_times("forward_op_s", forward, unit.forward)
    _check_times("backward_op_s", backward, unit.backward)
    if len(forward) != len(backward):
        raise FileFormatError(
            f"unit_kind {row.kind} has {len(forward)} repetitions forward and {len(backward)} "
            "backward, allowed: as many"
        )


def _check_times(column: str, runs: Sequence[Sequence[float]], span: tuple[int, int]) -> None:
    """Refuse times that are not there for every operator, or not above 0; NaN is allowed."""
    num_ops = span[1] - span[0]
    if not runs or any(len(times_s) != num_ops for times_s in runs):
        raise FileFormatError(
            f"{column} has {[len(times_s) for times_s in runs]} times per repetition, "
            f"allowed: {num_ops}, one per operator"
        )
    for times_s in runs:
        for time_s in times_s:
            if time_s <= 0 or math.isinf(time_s):
                raise FileFormatError(f"{column} has the time {time_s}, allowed: above 0")


def _check_step(step: StepRow) -> None:
    if step.status not in STATUSES:
        raise FileFormatError(
            f"status of {step.label!r} is {step.status!r}, allowed: {', '.join(STATUSES)}"
        )
    if step.status != OK:
        return
    times_s = step.step_times_s
    if not times_s or not all(time_s > 0 and math.isfinite(time_s) for time_s in times_s):
        raise FileFormatError(
            f"step_times_s of {step.label!r} is {list(times_s)}, allowed: one or more times above 0"
        )
    if step.peak_memory_bytes <= 0:
        raise FileFormatError(
            f"peak_memory_bytes of {step.label!r} is {step.peak_memory_bytes}, allowed: above 0"
        )
