"""Shards that are broken, foreign or impossible: each is named, and the others are read."""

from __future__ import annotations

import contextlib
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from remora.cost_models.dataset.dataset import read_dataset
from remora.cost_models.dataset.rows import run_to_rows
from remora.cost_models.dataset.schema import arrow_schema
from remora.cost_models.dataset.shard import read_shard, write_shard
from remora.errors import FileFormatError
from tests.cost_models.dataset.runs import changed, run_of, step_row, write_rows

ROOT = Path(__file__).parents[3]


def refused(path: Path) -> str:
    """What is said about a shard beside a good one."""
    write_shard(path.parent, run_of(size=99))
    dataset = read_dataset(path.parent)
    assert len(dataset.runs) == 1
    (fault,) = dataset.faults
    assert str(path) in fault
    return fault


def test_a_file_that_was_cut_short_anywhere(tmp_path: Path) -> None:
    path = write_shard(tmp_path, run_of())
    content = path.read_bytes()
    for length in range(0, len(content), 499):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match="cut short or no Parquet"):
            read_shard(path)
    assert "cut short or no Parquet" in refused(path)


def test_flipped_bits_never_become_figures(tmp_path: Path) -> None:
    # Digits that cannot be compressed lie in the file as they are.
    times_s = [random.Random(seed).uniform(1, 2) for seed in range(300)]
    path = write_shard(tmp_path, run_of(steps=(step_row("keep_all", times_s),)))
    before, content = read_shard(path), path.read_bytes()
    for position in range(0, len(content), 211):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]
        )
        with contextlib.suppress(FileFormatError):
            assert read_shard(path) == before


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all", b"\0" * 4096])
def test_a_file_that_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign.parquet").write_bytes(content)
    assert "no Parquet" in refused(tmp_path / "foreign.parquet")


def test_a_folder_with_the_name_of_a_shard(tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    assert "folder.parquet" in refused(tmp_path / "folder.parquet")


def test_a_table_with_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1], "b": ["x"]}), path)
    assert "has other columns than a shard of profiled runs: a, b, backward_op_s" in refused(path)


def test_a_column_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    schema = arrow_schema()
    index = schema.get_field_index("batch")
    other = schema.set(index, pyarrow.field("batch", pyarrow.string()))
    rows = [{**row, "batch": "2"} for row in run_to_rows(run_of())]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, other), path)
    assert "other columns than a shard of profiled runs: batch" in refused(path)


def test_a_table_without_rows(tmp_path: Path) -> None:
    assert "is empty: it has no rows" in refused(write_rows(tmp_path / "empty.parquet", []))


@pytest.mark.parametrize(
    ("record", "values", "message"),
    [
        ("step", {"step_times_s": [0.0, 1.0]}, "step_times_s of 'keep_all' is [0.0, 1.0]"),
        ("step", {"step_times_s": [-1.0]}, "step_times_s of 'keep_all' is [-1.0]"),
        ("step", {"step_times_s": [1.0, math.nan]}, "allowed: one or more times above 0"),
        ("step", {"step_times_s": [math.inf]}, "allowed: one or more times above 0"),
        ("step", {"step_times_s": []}, "allowed: one or more times above 0"),
        ("step", {"step_times_s": None}, "has a row that cannot be read"),
        ("step", {"peak_memory_bytes": 0}, "peak_memory_bytes of 'keep_all' is 0"),
        ("step", {"peak_memory_bytes": None}, "has a row that cannot be read"),
        ("step", {"status": "fine"}, "allowed: ok, out_of_memory, crashed, timed_out"),
        ("unit", {"forward_op_s": [[0.0], [0.5]]}, "forward_op_s has the time 0.0"),
        ("unit", {"backward_op_s": [[-1.0], [0.5]]}, "backward_op_s has the time -1.0"),
        ("unit", {"backward_op_s": [[0.5], [math.inf]]}, "backward_op_s has the time inf"),
        ("unit", {"forward_op_s": [[0.5, 0.5], [0.5]]}, "has [2, 1] times per repetition"),
        ("unit", {"forward_op_s": []}, "allowed: 1, one per operator"),
        ("unit", {"forward_op_s": [[0.5]]}, "has 1 repetitions forward and 2 backward"),
        ("unit", {"forward_op_s": [[0.5], [None]]}, "has a row that cannot be read"),
        ("unit", {"unit_kind": "another"}, "unit_kind another is not in its graph"),
        ("unit", {"unit": 7}, "unit is 7, allowed: one of the kind kind"),
        ("graph", {"graph_json": "{"}, "graph is not complete JSON"),
        ("graph", {"graph_json": None}, "has a row that cannot be read"),
        ("graph", {"measurements_json": "{}"}, "has a row that cannot be read"),
        ("graph", {"record": "other"}, "has a record 'other', allowed: graph, unit, step"),
        ("step", {"record": "graph"}, "has rows of 2 graphs, allowed: those of one"),
        ("unit", {"format": 2}, "has format 2, allowed: 1"),
        ("unit", {"family": "encoder"}, "rows of several runs: family is not the same"),
        ("unit", {"graph_hash": "0123"}, "rows of several runs: graph_hash is not the same"),
    ],
)
def test_rows_that_cannot_have_been_measured(
    tmp_path: Path, record: str, values: dict[str, Any], message: str
) -> None:
    path = write_rows(tmp_path / "wrong.parquet", changed(run_of(), record, **values))
    assert message in refused(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"graph_hash": "0123"}, "graph_hash is 0123, but its graph has "),
        ({"family": None}, "family is missing"),
        ({"hardware_json": "{}"}, "hardware.memory_bytes is missing"),
        ({"values_json": "["}, "has a row that cannot be read: JSONDecodeError"),
    ],
)
def test_common_columns_that_do_not_fit(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    rows = [{**row, **values} for row in run_to_rows(run_of())]
    assert message in refused(write_rows(tmp_path / "wrong.parquet", rows))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"optimizer_s": 0.5', '"optimizer_s": -1', "optimizer_s is -1"),
        ('"optimizer_s": 0.5', '"optimizer_s": NaN', "optimizer_s is nan"),
        ('"forward_op_s": 1e-06', '"forward_op_s": Infinity', "overhead forward_op_s is inf"),
        ('"an operator": 64', '"an operator": -64', "a workspace has -64 bytes"),
    ],
)
def test_measurements_that_are_impossible(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = run_to_rows(run_of())[0]["measurements_json"]
    assert old in text
    rows = changed(run_of(), "graph", measurements_json=text.replace(old, new))
    assert message in refused(write_rows(tmp_path / "wrong.parquet", rows))


def test_a_failed_step_needs_no_figures(tmp_path: Path) -> None:
    values = {"status": "out_of_memory", "step_times_s": [], "peak_memory_bytes": 0}
    path = write_rows(tmp_path / "one.parquet", changed(run_of(), "step", **values))
    assert read_shard(path).steps[0].status == "out_of_memory"


def test_a_skipped_shard_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"")
    refused(tmp_path / "broken.parquet")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "broken.parquet" in record.getMessage()


def test_a_folder_without_a_readable_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=f"{tmp_path} has no shard that can be read"):
        read_dataset(tmp_path)
    (tmp_path / "broken.parquet").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"the first fault: .*broken\.parquet"):
        read_dataset(tmp_path)
    with pytest.raises(FileFormatError, match=r"there is no folder of profiled runs .*absent"):
        read_dataset(tmp_path / "absent")


def test_unfinished_files_are_no_shards(tmp_path: Path) -> None:
    path = write_shard(tmp_path, run_of())
    half = path.read_bytes()[:100]
    (tmp_path / f".{path.name}.x1.tmp").write_bytes(half)
    (tmp_path / f".{path.name}").write_bytes(half)
    dataset = read_dataset(tmp_path)
    assert (len(dataset.runs), dataset.faults) == (1, ())


def test_a_full_disk_leaves_no_half_shard(tmp_path: Path) -> None:
    # A disk of its own would need rights; to the writer a limit on files looks the same.
    script = f"""
import resource
from pathlib import Path
from dataclasses import replace
from remora.cost_models.dataset.shard import write_shard
from remora.errors import UsageError
from tests.cost_models.dataset.runs import run_of

run = run_of()
write_shard(Path({str(tmp_path)!r}), run)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for another in (run, run_of(size=2)):
    try:
        write_shard(Path({str(tmp_path)!r}), another)
    except UsageError as error:
        print("refused:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("refused:") == done.stdout.count("File too large") == 2
    assert len(os.listdir(tmp_path)) == 1
    assert read_dataset(tmp_path).faults == ()
