"""A run is the same after it was written and read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from remora.cost_models.dataset.records import OK, STATUSES, ProfiledRun, StepRow, UnitRow
from remora.cost_models.dataset.rows import run_from_rows, run_to_rows
from remora.cost_models.dataset.shard import read_shard, shard_name, write_shard
from remora.executor.measure import measure_step
from remora.executor.memory.install import apply
from remora.executor.replay.replayer import Replayer
from remora.executor.replay.units import measure_unit_runs
from remora.graph.model_graph import ModelGraph
from remora.graph.signature import op_signature
from remora.graph.trace import trace
from remora.hardware.measurements import Measurements, Overheads, UnitRuns
from remora.schedule.menu import keep_all_schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json
from tests.cost_models.dataset.runs import run_of, setting, step_row, unit_row

SECONDS = st.floats(2**-30, 1000, width=32)
FINITE = st.floats(-1.0, 1.0)


def measured_run() -> ProfiledRun:
    """A perceptron that is traced and measured on this machine."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.GELU()) for _ in range(3)))
    inputs = (torch.randn(8, 32),)
    graph = trace(model, inputs, model_name="perceptron")
    runs, notes = measure_unit_runs(
        graph, {unit.kind for unit in graph.units}, torch.device("cpu"), repetitions=3
    )
    first = {unit.kind: unit.index for unit in reversed(graph.units)}
    replayer = Replayer(torch.device("cpu"), model=model, example_inputs=inputs)
    signatures = {op_signature(graph, op) for op in graph.ops if not op.view}
    workspaces, _ = replayer.workspaces(graph, signatures)
    return replace(
        run_of(),
        graph=graph,
        measurements=Measurements(
            units={},
            workspace_bytes={name: size for name, size in workspaces.items() if size},
            overheads=Overheads(1e-6, 1e-6),
            optimizer_s=replayer.optimizer_s(graph, "adamw"),
            notes=notes,
        ),
        units=tuple(UnitRow(kind, first[kind], run) for kind, run in runs.items()),
        steps=(measured_step(model, inputs, graph),),
    )


def measured_step(model: nn.Module, inputs: tuple[torch.Tensor], graph: ModelGraph) -> StepRow:
    schedule = keep_all_schedule(graph)
    with apply(model, graph, schedule) as handle:
        found = measure_step(model, inputs, repetitions=3, handle=handle)
    return StepRow(
        "keep_all",
        schedule_to_json(schedule),
        "adamw",
        found.status,
        found.detail,
        found.step_times_s,
        found.peak_memory_bytes,
    )


def test_a_measured_model_comes_back_as_it_was(tmp_path: Path) -> None:
    run = measured_run()
    path = write_shard(tmp_path, run)
    assert path.name == shard_name(run.subject, run.setting, run.round)
    again = read_shard(path)
    assert again.graph == run.graph
    assert (again.subject, again.setting, again.round) == (run.subject, run.setting, run.round)
    assert again.measurements == run.measurements
    assert again.steps == run.steps
    assert again.steps[0].status == OK
    schedule_from_json(again.steps[0].schedule_json, again.graph.content_hash)
    assert [(row.kind, row.unit) for row in again.units] == [(r.kind, r.unit) for r in run.units]
    for after, before in zip(again.units, run.units, strict=True):
        # Single precision is far below the noise of a clock.
        assert after.unit_s == pytest.approx(before.unit_s, rel=1e-6)
        assert len(after.runs.forward_op_s) >= 3
    assert set(again.measured.units) == {unit.kind for unit in run.graph.units}


def test_writing_again_replaces_the_file_by_one_that_says_the_same(tmp_path: Path) -> None:
    first = write_shard(tmp_path, run_of()).read_bytes()
    assert write_shard(tmp_path, run_of()).read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 1


def test_runs_of_other_values_settings_and_rounds_have_other_files(tmp_path: Path) -> None:
    runs = [
        run_of(),
        run_of(size=2),
        run_of(round_=1),
        run_of(setting=setting("another")),
        run_of(setting=setting(threads=2)),
    ]
    assert len({write_shard(tmp_path, run) for run in runs}) == len(runs)


def test_an_operator_that_was_not_measurable_stays_so(tmp_path: Path) -> None:
    row = unit_row("kind", 0, ((math.nan, math.nan), (0.5, 0.25)))
    again = read_shard(write_shard(tmp_path, run_of(units=(row,))))
    assert again.measured.units["kind"].forward_op_s == (None,)
    assert again.units[0].unit_s == 0.375


@given(data=st.data())
def test_rows_to_run_to_rows_is_the_identity(data: st.DataObject) -> None:
    repetitions = data.draw(st.integers(1, 4))
    times_s = st.lists(SECONDS.map(lambda x: (x,)), min_size=repetitions, max_size=repetitions)
    unit = UnitRow(
        "kind",
        data.draw(st.sampled_from((0, 1))),
        UnitRuns(tuple(data.draw(times_s)), tuple(data.draw(times_s))),
    )
    steps = data.draw(st.lists(_steps(), max_size=3))
    run = run_of(
        model=data.draw(st.text(min_size=1, max_size=8)),
        size=data.draw(st.integers(-5, 5)),
        round_=data.draw(st.integers(0, 3)),
        units=(unit,),
        steps=tuple(steps),
        measurements=Measurements(
            units={},
            workspace_bytes=data.draw(
                st.dictionaries(st.text(max_size=5), st.integers(1, 10**12), max_size=3)
            ),
            overheads=Overheads(*(data.draw(FINITE) for _ in range(6))),
            optimizer_s=data.draw(st.floats(0, 1e3)),
            notes=tuple(data.draw(st.lists(st.text(max_size=5), max_size=2))),
            optimizer=data.draw(st.sampled_from(("adamw", "sgd"))),
        ),
    )
    rows = run_to_rows(run)
    again = run_from_rows(rows, "rows")
    assert again == run
    assert run_to_rows(again) == rows


@st.composite
def _steps(draw: st.DrawFn) -> StepRow:
    status = draw(st.sampled_from(STATUSES))
    times_s = draw(st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=5)) if status == OK else ()
    peak_bytes = draw(st.integers(1, 2**40)) if status == OK else 0
    label, detail = draw(st.text(max_size=8)), draw(st.text(max_size=8))
    return step_row(label, times_s, peak_bytes, status=status, detail=detail)
