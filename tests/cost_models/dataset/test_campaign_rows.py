"""What a campaign measured, read as profiled runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.gpu_campaign.dataset import TABLES, Dataset
from benchmarks.gpu_campaign.rows import graph_row, measurement_row, operator_rows
from remora.api.model_source import ModelSource
from remora.cost_models.dataset.campaign import CAMPAIGN_COLUMNS
from remora.cost_models.dataset.dataset import read_dataset
from remora.cost_models.dataset.shard import write_shard
from remora.errors import FileFormatError
from remora.graph.model_graph import ModelGraph
from remora.graph.signature import op_signature
from remora.hardware.measurements import Measurements, Overheads, UnitTimes
from tests.cost_models.dataset.runs import graph_of_kinds, run_of
from tests.cost_models.hand_graph import hand_hardware

SOURCE = ModelSource("gpt2_tiny", "remora.zoo.gpt2:gpt2", {"layers": 2, "dtype": "bfloat16"})


def measurements_of(graph: ModelGraph) -> Measurements:
    times = UnitTimes((0.25,), (None,), 5)
    product = op_signature(graph, graph.ops[0])
    overheads = Overheads(1e-6, -1e-6)
    kinds = {unit.kind for unit in graph.units}
    return Measurements(dict.fromkeys(kinds, times), {product: 64}, overheads, 0.5, ("a note",))


def step(label: str, graph: ModelGraph, **values: Any) -> dict[str, Any]:
    row = {"graph_hash": graph.content_hash, "part": "gpt2: core", "section": "prediction"}
    row |= {"label": label, "batch": 4, "optimizer": "adamw", "schedule_json": f'"{label}"'}
    return {**row, "status": "died", **values}


def ran(label: str, graph: ModelGraph, **values: Any) -> dict[str, Any]:
    figures = {"status": "ok", "step_times_s": [1.0, 1.5], "peak_allocated_bytes": 900}
    return step(label, graph, **figures, peak_reserved_bytes=1000, **values)


def write_campaign(
    folder: Path, graph: ModelGraph | None = None, **tables: list[dict[str, Any]]
) -> ModelGraph:
    """Write the tables as a campaign does; ``tables`` replaces rows of some."""
    graph = graph_of_kinds("one", "two") if graph is None else graph
    measured = measurements_of(graph)
    rows = {
        "graphs": [graph_row(graph, SOURCE, 4)],
        "measurements": [measurement_row(graph, hand_hardware(), measured)],
        "operators": operator_rows(graph, hand_hardware(), measured),
        "steps": [ran("keep_all", graph)],
        **tables,
    }
    dataset = Dataset(folder)
    for name, content in rows.items():
        dataset.add(name, content)
    dataset.save()
    return graph


def test_every_column_that_is_read_is_written() -> None:
    for table, columns in CAMPAIGN_COLUMNS.items():
        assert set(columns) <= set(TABLES[table])


def test_a_campaign_joins(tmp_path: Path) -> None:
    graph = write_campaign(tmp_path)
    dataset = read_dataset(tmp_path)
    (run,) = dataset.runs
    assert dataset.faults == ()
    assert run.graph == graph
    subject = run.subject
    assert (subject.family, subject.model, subject.batch) == ("decoder", "gpt2", 4)
    assert (subject.target, subject.values) == (SOURCE.target, SOURCE.values)
    assert subject.dtype == "bfloat16"
    assert run.setting.hardware == hand_hardware()
    assert run.setting.threads > 0
    assert {row.kind for row in run.units} == {"one", "two"}
    for row in run.units:
        assert row.runs.forward_op_s == ((0.25,),)
        assert math.isnan(row.runs.backward_op_s[0][0])
    assert replace(run.measurements, units={}) == replace(measurements_of(graph), units={})
    (measured,) = run.steps
    assert (measured.label, measured.step_times_s) == ("keep_all", (1.0, 1.5))
    assert measured.peak_memory_bytes == 1000


def test_failed_steps_stay_and_interrupted_ones_go(tmp_path: Path) -> None:
    graph = graph_of_kinds("one", "two")
    failed = step("floor", graph, status="out_of_memory")
    write_campaign(tmp_path, steps=[step("rotor", graph), failed, ran("keep_all", graph)])
    (run,) = read_dataset(tmp_path).runs
    assert {row.label: row.status for row in run.steps} == {
        "floor": "out_of_memory",
        "keep_all": "ok",
    }


def test_a_graph_that_was_not_measured_is_named(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    other = graph_of_kinds("three", "four")
    write_campaign(tmp_path, other, measurements=[], operators=[])
    dataset = read_dataset(tmp_path)
    assert len(dataset.runs) == 1
    (fault,) = dataset.faults
    assert f"graph {other.content_hash} of remora.zoo.gpt2:gpt2" in fault
    assert "1 steps, but its operators were not measured" in fault


def test_a_graph_that_nothing_was_measured_of_is_no_fault(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    other = graph_of_kinds("three", "four")
    write_campaign(tmp_path, other, measurements=[], operators=[], steps=[])
    dataset = read_dataset(tmp_path)
    assert (len(dataset.runs), dataset.faults) == (1, ())


def test_a_campaign_that_measured_no_operators_is_refused(tmp_path: Path) -> None:
    write_campaign(tmp_path, measurements=[], operators=[])
    with pytest.raises(FileFormatError, match="its operators were not measured"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("step_times_s", [0.0], "step_times_s of 'keep_all' is [0.0]"),
        ("peak_reserved_bytes", 0, "peak_memory_bytes of 'keep_all' is 0"),
        ("peak_reserved_bytes", None, "has a row that cannot be read"),
    ],
)
def test_impossible_figures_are_named(
    tmp_path: Path, column: str, value: object, message: str
) -> None:
    graph = graph_of_kinds("one", "two")
    write_campaign(tmp_path, steps=[{**ran("keep_all", graph), column: value}])
    write_shard(tmp_path, run_of())
    (fault,) = read_dataset(tmp_path).faults
    assert message in fault


def test_operators_that_are_missing_are_named(tmp_path: Path) -> None:
    graph = graph_of_kinds("one", "two")
    rows = operator_rows(graph, hand_hardware(), measurements_of(graph))
    write_campaign(tmp_path, operators=rows[1:])
    write_shard(tmp_path, run_of())
    (fault,) = read_dataset(tmp_path).faults
    assert "forward_op_s has [0] times per repetition, allowed: 1" in fault


def test_shards_beside_a_campaign_are_read_too(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    write_shard(tmp_path, run_of())
    (tmp_path / "broken.parquet").write_bytes(b"")
    dataset = read_dataset(tmp_path)
    assert len(dataset.runs) == 2
    assert [fault.count("broken.parquet") for fault in dataset.faults] == [1]


def test_a_table_that_is_broken_is_named(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    path = tmp_path / "measurements.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"graph_hash": ["a"]}), path)
    with pytest.raises(FileFormatError, match=r"measurements\.parquet lacks hardware_json, "):
        read_dataset(tmp_path)
    path.write_bytes(b"PAR1")
    with pytest.raises(FileFormatError, match=r"measurements\.parquet cannot be read"):
        read_dataset(tmp_path)
