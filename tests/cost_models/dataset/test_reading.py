"""Copies count once, rounds are put together, and nothing depends on the order of folders."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remora.cost_models.dataset.dataset import dataset_of, read_dataset
from remora.cost_models.dataset.merge import distinct_units
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.dataset.shard import read_shard, write_shard
from remora.hardware.measurements import Measurements, Overheads
from tests.cost_models.dataset.runs import run_of, setting, step_row, unit_row

SECOND = ((1.0, 2.0, 4.0), (1.0, 1.0, 1.0))


def second_round(**values: Any) -> ProfiledRun:
    run = run_of(
        round_=1,
        units=(unit_row("kind", 0, SECOND),),
        steps=(step_row("keep_all", (3.0, 4.0), 2000), step_row("floor", (5.0,))),
    )
    return replace(run, **values)


def test_a_shard_in_two_folders_counts_once(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a", run_of())
    (tmp_path / "b").mkdir()
    shutil.copy(path, tmp_path / "b" / "another name.parquet")
    dataset = read_dataset(tmp_path / "a", tmp_path / "b")
    assert dataset.runs == dataset.rounds == (read_shard(path),)


def test_a_copy_with_an_operator_that_was_not_measurable_counts_once(tmp_path: Path) -> None:
    run = run_of(units=(unit_row("kind", 0, ((math.nan, math.nan), (0.5, 0.25))),))
    for folder in ("a", "b"):
        write_shard(tmp_path / folder, run)
    (merged,) = read_dataset(tmp_path / "a", tmp_path / "b").runs
    assert len(merged.units[0].runs.backward_op_s) == 2


def test_rounds_are_put_together(tmp_path: Path) -> None:
    for run in (second_round(), run_of()):
        write_shard(tmp_path, run)
    dataset = read_dataset(tmp_path)
    (merged,) = dataset.runs
    (unit,) = merged.units
    assert unit.runs.forward_op_s == ((0.25,), (0.5,), (1.0,), (2.0,), (4.0,))
    assert unit.runs.backward_op_s == ((0.125,), (0.5,), (1.0,), (1.0,), (1.0,))
    steps = {step.label: step for step in merged.steps}
    assert steps["keep_all"].step_times_s == (1.0, 1.5, 2.0, 3.0, 4.0)
    assert steps["keep_all"].peak_memory_bytes == 1500
    assert steps["floor"].step_times_s == (5.0,)
    assert merged.round == 0
    assert [run.round for run in dataset.rounds] == [0, 1]
    assert [run.steps for run in dataset.rounds] == [run_of().steps, second_round().steps]


def test_the_order_of_folders_changes_nothing(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", run_of())
    write_shard(tmp_path / "a", run_of(size=2))
    write_shard(tmp_path / "b", second_round())
    write_shard(tmp_path / "b", run_of(steps=(step_row("keep_all", (9.0,)),)))
    a, b = tmp_path / "a", tmp_path / "b"
    assert read_dataset(a, b) == read_dataset(b, a) == read_dataset(a, b, a)


def test_only_the_same_subject_in_the_same_setting_is_put_together() -> None:
    runs = [
        run_of(),
        run_of(round_=1, size=2),
        run_of(round_=1, setting=setting(threads=2)),
        run_of(round_=1, setting=setting(machine="another processor")),
        run_of(round_=1, kinds=("kind", "other")),
    ]
    assert len(dataset_of(runs).runs) == len(runs)


def test_a_schedule_under_two_labels_is_one_step() -> None:
    steps = (
        step_row("keep_all", (1.0,), schedule="{}"),
        step_row("best", (2.0,), schedule="{}"),
        step_row("best", (3.0,), schedule="{}", optimizer="sgd"),
    )
    (run,) = dataset_of([run_of(steps=steps)]).runs
    assert [(step.label, step.step_times_s) for step in run.steps] == [
        ("keep_all", (1.0, 2.0)),
        ("best", (3.0,)),
    ]


def test_a_step_that_failed_once_keeps_its_good_figures() -> None:
    failed = step_row("keep_all", (), 0, status="out_of_memory", detail="too large")
    (run,) = dataset_of([run_of(), second_round(steps=(failed, failed))]).runs
    assert [step.status for step in run.steps] == ["ok", "out_of_memory"]
    assert run.steps[0].step_times_s == (1.0, 1.5, 2.0)


def test_figures_of_the_host_are_medians_of_what_was_measured() -> None:
    first = Measurements({}, {"a": 1}, Overheads(1.0, -1.0), 0.5, ("x",))
    second = Measurements(
        {}, {"a": 3, "b": 2}, Overheads(3.0, -2.0, 0.0, 0.0, 8.0), 1.5, ("y", "x")
    )
    other = replace(second, optimizer="sgd", optimizer_s=99.0)
    runs = [
        run_of(round_=number, measurements=measurements)
        for number, measurements in enumerate((first, second, other))
    ]
    (run,) = dataset_of(runs[:2]).runs
    assert run.measurements.overheads == Overheads(2.0, -1.5, 0.0, 0.0, 8.0)
    assert run.measurements.optimizer_s == 1.0
    assert run.measurements.workspace_bytes == {"a": 1, "b": 2}
    assert run.measurements.notes == ("x", "y")
    (run,) = dataset_of(runs).runs
    assert run.measurements.optimizer_s == 1.0


def test_a_kind_in_several_graphs_is_one_distinct_unit_per_setting() -> None:
    runs = [
        run_of(),
        run_of(size=2, units=(unit_row("kind", 0, SECOND),)),
        run_of(size=3, kinds=("kind", "other"), setting=setting("another")),
        run_of(size=4, units=(unit_row("kind", 0, ((math.nan,), (math.nan,))),)),
    ]
    found = distinct_units(runs)
    assert [(one.run.subject.values["size"], one.row.kind) for one in found] == [
        (1, "kind"),
        (3, "kind"),
        (3, "other"),
    ]
    assert found[0].row.runs.forward_op_s == ((0.25,), (0.5,), (1.0,), (2.0,), (4.0,))
    assert found[0].row.unit_s == pytest.approx(2.0)
