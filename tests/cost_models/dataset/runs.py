"""Profiled runs with made-up figures, of the graph that is small enough to compute by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from remora.cost_models.dataset.records import OK, ProfiledRun, Setting, StepRow, Subject, UnitRow
from remora.cost_models.dataset.rows import run_to_rows
from remora.cost_models.dataset.schema import COLUMNS, arrow_schema
from remora.graph.model_graph import ModelGraph
from remora.hardware.measurements import Measurements, Overheads, UnitRuns
from tests.cost_models.hand_graph import hand_graph, hand_hardware

UNIT_TIMES_S = ((0.25, 0.5), (0.125, 0.5))
"""Forward and backward, repetition by repetition; exact in single precision."""


def graph_of_kinds(*kinds: str) -> ModelGraph:
    """The graph by hand with other kinds of its two units."""
    graph = hand_graph()
    units = (replace(unit, kind=kind) for unit, kind in zip(graph.units, kinds, strict=True))
    return replace(graph, units=tuple(units))


def setting(name: str = "hand", threads: int = 1, machine: str = "a processor") -> Setting:
    hardware = replace(hand_hardware(), name=name)
    return Setting(hardware, threads, "2.11", "3.11", machine)


def unit_row(
    kind: str, unit: int, times_s: tuple[Sequence[float], Sequence[float]] = UNIT_TIMES_S
) -> UnitRow:
    forward, backward = (tuple((time_s,) for time_s in phase) for phase in times_s)
    return UnitRow(kind, unit, UnitRuns(forward, backward))


def step_row(
    label: str, times_s: Sequence[float], peak_bytes: int = 1000, **values: Any
) -> StepRow:
    return StepRow(
        label=label,
        schedule_json=values.get("schedule", f'{{"plan": "{label}"}}'),
        optimizer=values.get("optimizer", "adamw"),
        status=values.get("status", OK),
        detail=values.get("detail", ""),
        step_times_s=tuple(times_s),
        peak_memory_bytes=peak_bytes,
    )


def run_of(
    family: str = "decoder",
    model: str = "gpt2",
    size: int = 1,
    kinds: tuple[str, str] = ("kind", "kind"),
    round_: int = 0,
    **values: Any,
) -> ProfiledRun:
    """A run with one row per kind and one step; ``values`` replace fields of the run."""
    target = f"remora.zoo.{model}:{model}"
    subject = Subject(family, model, target, {"size": size, "batch": 2}, 2, "float32")
    graph = graph_of_kinds(*kinds)
    first = {unit.kind: unit.index for unit in reversed(graph.units)}
    run = ProfiledRun(
        subject=subject,
        setting=setting(),
        graph=graph,
        measurements=Measurements({}, {"an operator": 64}, Overheads(1e-6, -1e-6), 0.5),
        units=tuple(unit_row(kind, first[kind]) for kind in dict.fromkeys(kinds)),
        steps=(step_row("keep_all", (1.0, 1.5, 2.0)),),
        round=round_,
    )
    return replace(run, **values)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as a shard, whatever they say."""
    complete = [{column: row.get(column) for column in COLUMNS} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(complete, arrow_schema()), path)
    return path


def changed(run: ProfiledRun, of: str, /, **values: Any) -> list[dict[str, Any]]:
    """Rows of a run with other values in those of one kind."""
    return [{**row, **values} if row["record"] == of else row for row in run_to_rows(run)]
