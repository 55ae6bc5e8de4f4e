"""Measurements of ``benchmarks/gpu_campaign`` as profiled runs: its tables, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from remora.cost_models.dataset.families import family_of
from remora.cost_models.dataset.records import OK, STATUSES, ProfiledRun
from remora.cost_models.dataset.rows import Row, run_from_rows
from remora.cost_models.dataset.schema import FORMAT, GRAPH, STEP, UNIT
from remora.errors import FileFormatError
from remora.graph.model_graph import BACKWARD, FORWARD

__all__ = ["CAMPAIGN_COLUMNS", "CAMPAIGN_FILES", "is_campaign", "read_campaign"]

CAMPAIGN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "graphs": ("graph_hash", "target", "values_json", "batch", "graph_json"),
    "measurements": (
        "graph_hash",
        "hardware_json",
        "threads",
        "torch",
        "python",
        "machine",
        "overheads_json",
        "optimizer",
        "optimizer_s",
        "notes_json",
    ),
    "operators": (
        "graph_hash",
        "unit_kind",
        "unit",
        "phase",
        "position",
        "signature",
        "time_s",
        "workspace_bytes",
    ),
    "steps": (
        "graph_hash",
        "label",
        "schedule_json",
        "optimizer",
        "status",
        "step_times_s",
        "peak_reserved_bytes",
    ),
}
"""What is read of every table."""

CAMPAIGN_FILES = tuple(f"{table}.parquet" for table in CAMPAIGN_COLUMNS)


def is_campaign(folder: Path) -> bool:
    """Whether a folder holds the tables of a campaign."""
    return (folder / CAMPAIGN_FILES[0]).exists()


def read_campaign(folder: Path) -> tuple[list[ProfiledRun], list[str]]:
    """Read every graph whose operators were measured.

    The campaign keeps medians of operators, so a unit has one repetition; steps have all of
    theirs. The peak is the reserved one, which a budget on CUDA means.

    Returns:
        The runs, and one sentence per graph with figures that is left out.

    Raises:
        FileFormatError: a table cannot be read or lacks a column.
    """
    tables = {name: _read_table(folder, name) for name in CAMPAIGN_COLUMNS}
    runs: list[ProfiledRun] = []
    faults: list[str] = []
    measured = {row["graph_hash"]: row for row in tables["measurements"]}
    for graph in tables["graphs"]:
        graph_hash = graph["graph_hash"]
        where = f"{folder / CAMPAIGN_FILES[0]}, graph {graph_hash} of {graph['target']}"
        operators = [row for row in tables["operators"] if row["graph_hash"] == graph_hash]
        steps = [row for row in tables["steps"] if row["graph_hash"] == graph_hash]
        if graph_hash not in measured:
            # Graphs that only gradients were checked of have no steps, so nothing is lost.
            if steps:
                faults.append(f"{where}: {len(steps)} steps, but its operators were not measured")
            continue
        try:
            rows = _rows(graph, measured[graph_hash], operators, steps)
            runs.append(run_from_rows(rows, where))
        except FileFormatError as error:
            faults.append(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            faults.append(f"{where} cannot be read: {type(error).__name__}: {error}")
    return runs, faults


def _read_table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a table; none if the campaign never got that far."""
    import pyarrow
    import pyarrow.parquet

    path = folder / f"{name}.parquet"
    if not path.exists():
        return []
    try:
        file = pyarrow.parquet.ParquetFile(path)
        missing = set(CAMPAIGN_COLUMNS[name]) - set(file.schema_arrow.names)
        if missing:
            raise FileFormatError(f"the table {path} lacks {', '.join(sorted(missing))}")
        rows: list[dict[str, Any]] = file.read(list(CAMPAIGN_COLUMNS[name])).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"the table {path} cannot be read: {reason}") from error
    return rows


def _rows(
    graph: Row, measured: Row, operators: Iterable[Row], steps: Iterable[Row]
) -> list[dict[str, Any]]:
    """The rows of a shard that says the same."""
    operators = list(operators)
    values = json.loads(graph["values_json"])
    common = {
        "format": FORMAT,
        "round": 0,
        "family": family_of(graph["target"]),
        "model": graph["target"].rpartition(":")[2],
        "target": graph["target"],
        "values_json": graph["values_json"],
        "batch": graph["batch"],
        "dtype": str(values.get("dtype", "float32")),
        "graph_hash": graph["graph_hash"],
        **{name: measured[name] for name in ("hardware_json", "threads", "torch", "python")},
        "machine": measured["machine"],
    }
    head = {
        "record": GRAPH,
        "graph_json": graph["graph_json"],
        "measurements_json": _measurements_json(measured, operators),
    }
    kinds = dict.fromkeys(row["unit_kind"] for row in operators)
    units = [_unit_row([row for row in operators if row["unit_kind"] == kind]) for kind in kinds]
    # A step that an interruption ended says nothing.
    ended = [_step_row(row) for row in steps if row["status"] in STATUSES]
    return [{**common, **row} for row in (head, *units, *ended)]


def _measurements_json(measured: Row, operators: Iterable[Row]) -> str:
    values = {
        "workspace_bytes": {
            row["signature"]: row["workspace_bytes"] for row in operators if row["workspace_bytes"]
        },
        "overheads": json.loads(measured["overheads_json"]),
        "optimizer_s": measured["optimizer_s"],
        "optimizer": measured["optimizer"],
        "notes": json.loads(measured["notes_json"]),
    }
    return json.dumps(values)


def _unit_row(operators: list[Row]) -> dict[str, Any]:
    """All operators of one kind as its only repetition."""
    ordered = sorted(operators, key=lambda row: int(row["position"]))
    times_s = {
        phase: [
            math.nan if row["time_s"] is None else row["time_s"]
            for row in ordered
            if row["phase"] == phase
        ]
        for phase in (FORWARD, BACKWARD)
    }
    return {
        "record": UNIT,
        "unit_kind": ordered[0]["unit_kind"],
        "unit": ordered[0]["unit"],
        "forward_op_s": [times_s[FORWARD]],
        "backward_op_s": [times_s[BACKWARD]],
    }


def _step_row(row: Row) -> dict[str, Any]:
    ran = row["status"] == OK
    return {
        "record": STEP,
        "label": row["label"],
        "schedule_json": row["schedule_json"],
        "optimizer": row["optimizer"],
        "status": row["status"],
        "detail": "",
        "step_times_s": row["step_times_s"] if ran else [],
        "peak_memory_bytes": row["peak_reserved_bytes"] if ran else 0,
    }
