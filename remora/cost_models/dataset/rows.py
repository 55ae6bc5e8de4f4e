"""A profiled run as rows of a shard and back, with checks of every figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from remora.cost_models.dataset.checks import check_run
from remora.cost_models.dataset.records import ProfiledRun, Setting, StepRow, Subject, UnitRow
from remora.cost_models.dataset.schema import FORMAT, GRAPH, RECORDS, STEP, UNIT
from remora.errors import FileFormatError, UsageError
from remora.graph.model_graph import ModelGraph
from remora.graph.serialize import graph_from_json, graph_to_json
from remora.hardware.hardware import Hardware
from remora.hardware.load import hardware_from_mapping
from remora.hardware.measurements import Measurements, Overheads, UnitRuns

__all__ = ["Row", "hardware_values", "run_from_rows", "run_to_rows"]

Row = Mapping[str, Any]

_COMMON = (
    "format",
    "round",
    "family",
    "model",
    "target",
    "values_json",
    "batch",
    "dtype",
    "graph_hash",
    "hardware_json",
    "threads",
    "torch",
    "python",
    "machine",
)
"""Columns that every row of a shard has, with the same values."""


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
        "hardware_json": json.dumps(hardware_values(setting.hardware), sort_keys=True),
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


def run_from_rows(
    rows: Sequence[Row], where: str, decode: Callable[[str], ModelGraph] = graph_from_json
) -> ProfiledRun:
    """Put a run together again and check every figure of it.

    Args:
        rows: of one shard.
        where: the file, for messages.
        decode: makes the graph from its JSON; who reads many shards may decode equal ones once.

    Raises:
        FileFormatError: a row is missing, does not belong to the others, or holds a figure that
            cannot have been measured.
    """
    if not rows:
        raise FileFormatError(f"{where} is empty: it has no rows")
    head = _head(rows, where)
    try:
        run = ProfiledRun(
            subject=_subject(head),
            setting=_setting(head),
            graph=decode(head["graph_json"]),
            measurements=_measurements(json.loads(head["measurements_json"])),
            units=tuple(_unit(row) for row in rows if row["record"] == UNIT),
            steps=tuple(_step(row) for row in rows if row["record"] == STEP),
            round=head["round"],
        )
        check_run(run, head["graph_hash"])
    except FileFormatError as error:
        raise FileFormatError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise FileFormatError(
            f"{where} has a row that cannot be read: {type(error).__name__}: {error}"
        ) from error
    return run


def _head(rows: Sequence[Row], where: str) -> Row:
    """The row of the graph, once all rows are known to be of one run in this format."""
    for row in rows:
        if row["format"] != FORMAT:
            raise FileFormatError(f"{where} has format {row['format']!r}, allowed: {FORMAT}")
        if row["record"] not in RECORDS:
            raise FileFormatError(
                f"{where} has a record {row['record']!r}, allowed: {', '.join(RECORDS)}"
            )
    graphs = [row for row in rows if row["record"] == GRAPH]
    if len(graphs) != 1:
        raise FileFormatError(f"{where} has rows of {len(graphs)} graphs, allowed: those of one")
    head = graphs[0]
    for column in _COMMON:
        if head[column] is None:
            raise FileFormatError(f"{where}: {column} is missing")
        if any(row[column] != head[column] for row in rows):
            raise FileFormatError(f"{where} has rows of several runs: {column} is not the same")
    return head


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


def hardware_values(hardware: Hardware) -> dict[str, Any]:
    """The rates of a device as plain values, without its state of the moment."""
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
