"""A profiled run as rows of a shard and back, with checks of every figure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from remora.cost_models.dataset.records import OK, ProfiledRun, Setting, StepRow, Subject, UnitRow
from remora.cost_models.dataset.schema import FORMAT, GRAPH, STEP, UNIT
from remora.errors import FileFormatError, UsageError
from remora.graph.serialize import graph_from_json, graph_to_json
from remora.hardware.hardware import Hardware
from remora.hardware.load import hardware_from_mapping
from remora.hardware.measurements import Measurements, Overheads, UnitRuns

__all__ = ["Row", "run_from_rows", "run_to_rows"]

Row = Mapping[str, Any]


def run_to_rows(run: ProfiledRun) -> list[dict[str, Any]]:
    """Flatten a run: one row for the graph, one per unit kind, one per schedule."""
    subject, setting = run.subject, run.setting
    common = {
        "format": FORMAT,
        "round": run.round,
        "family": subject.family,
        "model": subject.model,
        "target": subject.target,
        "values_json": json.dumps(dict(subject.values), sort_keys=True),
        "batch": subject.batch,
        "dtype": subject.dtype,
        "graph_hash": run.graph.content_hash,
        "hardware_json": json.dumps(_hardware_values(setting.hardware), sort_keys=True),
        "threads": setting.threads,
        "torch": setting.torch,
        "python": setting.python,
        "machine": setting.machine,
    }
    graph_row: dict[str, Any] = {
        "record": GRAPH,
        "graph_json": graph_to_json(run.graph),
        "measurements_json": json.dumps(_measurement_values(run.measurements)),
    }
    units: list[dict[str, Any]] = [
        {
            "record": UNIT,
            "unit_kind": row.kind,
            "unit": row.unit,
            "forward_op_s": row.runs.forward_op_s,
            "backward_op_s": row.runs.backward_op_s,
        }
        for row in run.units
    ]
    steps: list[dict[str, Any]] = [{"record": STEP, **asdict(row)} for row in run.steps]
    return [{**common, **row} for row in (graph_row, *units, *steps)]


def run_from_rows(rows: Sequence[Row], where: str) -> ProfiledRun:
    """Put a run together again and check every figure of it.

    Args:
        rows: of one shard.
        where: the file, for messages.

    Raises:
        FileFormatError: a row is missing, does not belong to the others, or holds a figure that
            cannot have been measured.
    """
    if not rows:
        raise FileFormatError(f"{where} is empty: it has no rows")
    if any(row["format"] != FORMAT for row in rows):
        raise FileFormatError(f"{where} has format {rows[0]['format']!r}, allowed: {FORMAT}")
    graphs = [row for row in rows if row["record"] == GRAPH]
    if len(graphs) != 1 or len({row["graph_hash"] for row in rows}) != 1:
        raise FileFormatError(f"{where} has rows of {len(graphs)} graphs, allowed: those of one")
    head = graphs[0]
    try:
        run = ProfiledRun(
            subject=_subject(head),
            setting=_setting(head),
            graph=graph_from_json(head["graph_json"]),
            measurements=_measurements(json.loads(head["measurements_json"])),
            units=tuple(_unit(row) for row in rows if row["record"] == UNIT),
            steps=tuple(_step(row) for row in rows if row["record"] == STEP),
            round=head["round"],
        )
    except FileFormatError as error:
        raise FileFormatError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise FileFormatError(
            f"{where} has a row that cannot be read: {type(error).__name__}: {error}"
        ) from error
    _check_run(run, head["graph_hash"], where)
    return run


def _subject(row: Row) -> Subject:
    return Subject(
        family=row["family"],
        model=row["model"],
        target=row["target"],
        values=json.loads(row["values_json"]),
        batch=row["batch"],
        dtype=row["dtype"],
    )


def _setting(row: Row) -> Setting:
    return Setting(
        hardware=hardware_from_mapping(json.loads(row["hardware_json"])),
        threads=row["threads"],
        torch=row["torch"],
        python=row["python"],
        machine=row["machine"],
    )


def _unit(row: Row) -> UnitRow:
    return UnitRow(
        kind=row["unit_kind"],
        unit=row["unit"],
        runs=UnitRuns(
            forward_op_s=tuple(map(tuple, row["forward_op_s"])),
            backward_op_s=tuple(map(tuple, row["backward_op_s"])),
        ),
    )


def _step(row: Row) -> StepRow:
    return StepRow(
        label=row["label"],
        schedule_json=row["schedule_json"],
        optimizer=row["optimizer"],
        status=row["status"],
        detail=row["detail"] or "",
        step_times_s=tuple(row["step_times_s"]),
        peak_memory_bytes=row["peak_memory_bytes"],
    )


def _check_run(run: ProfiledRun, graph_hash: str, where: str) -> None:
    if run.graph.content_hash != graph_hash:
        raise FileFormatError(
            f"{where}: graph_hash is {graph_hash}, but its graph has {run.graph.content_hash}"
        )
    kinds = {unit.kind: unit for unit in reversed(run.graph.units)}
    for row in run.units:
        unit = kinds.get(row.kind)
        if unit is None:
            raise FileFormatError(f"{where}: unit_kind {row.kind} is not in its graph")
        _check_times("forward_op_s", row.runs.forward_op_s, unit.forward, where)
        _check_times("backward_op_s", row.runs.backward_op_s, unit.backward, where)
    for step in run.steps:
        if step.status == OK and not _positive(step.step_times_s):
            raise FileFormatError(
                f"{where}: step_times_s of {step.label!r} is {list(step.step_times_s)}, "
                "allowed: one or more times above 0"
            )
        if step.status == OK and step.peak_memory_bytes <= 0:
            raise FileFormatError(
                f"{where}: peak_memory_bytes of {step.label!r} is {step.peak_memory_bytes}, "
                "allowed: above 0"
            )


def _check_times(
    column: str, runs: Sequence[Sequence[float]], span: tuple[int, int], where: str
) -> None:
    """Refuse times that are not there for every operator, or not above 0."""
    if not runs or any(len(times_s) != span[1] - span[0] for times_s in runs):
        raise FileFormatError(
            f"{where}: {column} has {[len(times_s) for times_s in runs]} times per repetition, "
            f"allowed: {span[1] - span[0]}, one per operator"
        )
    worst = min((t for times_s in runs for t in times_s if not math.isnan(t)), default=1.0)
    if not (worst > 0 and math.isfinite(worst)):
        raise FileFormatError(f"{where}: {column} has the time {worst}, allowed: above 0")


def _positive(times_s: Iterable[float]) -> bool:
    values = list(times_s)
    return bool(values) and all(value > 0 and math.isfinite(value) for value in values)


def _hardware_values(hardware: Hardware) -> dict[str, Any]:
    values = asdict(replace(hardware, flops_per_s=dict(hardware.flops_per_s)))
    del values["state"]
    return values


def _measurement_values(measurements: Measurements) -> dict[str, Any]:
    return {
        "workspace_bytes": {k: v for k, v in measurements.workspace_bytes.items() if v},
        "overheads": asdict(measurements.overheads),
        "optimizer_s": measurements.optimizer_s,
        "optimizer": measurements.optimizer,
        "notes": list(measurements.notes),
    }


def _measurements(values: Row) -> Measurements:
    return Measurements(
        units={},
        workspace_bytes=dict(values["workspace_bytes"]),
        overheads=Overheads(**values["overheads"]),
        optimizer_s=values["optimizer_s"],
        notes=tuple(values["notes"]),
        optimizer=values["optimizer"],
    )
