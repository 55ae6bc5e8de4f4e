"""Real collections in real processes: what is measured, what survives a death, what goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from remora.api.model_source import ModelSource
from remora.api.profiling.collect import Done, ProfileRequest, collect
from remora.api.profiling.subjects import subjects_of_model
from remora.cost_models.dataset.dataset import read_dataset
from remora.cost_models.dataset.records import Subject
from remora.errors import InvalidInputError, UnknownNameError

TARGET = "tests.api.profiling.models:stack"
KILLED = "out_of_memory"
"""Who kills a process from outside is most often the system that is short of memory."""

REPOSITORY = Path(__file__).parents[3]


def _subjects(batches: list[int], **values: str) -> tuple[Subject, ...]:
    return subjects_of_model(ModelSource("custom", TARGET, values), "own", batches, None)


def _request(folder: Path, subjects: tuple[Subject, ...], schedules: int = 2) -> ProfileRequest:
    return ProfileRequest(subjects, folder, schedules=schedules, repetitions=3)


def test_a_collection_is_read_back_and_not_made_twice(tmp_path: Path) -> None:
    request = _request(tmp_path / "runs", _subjects([4]))
    told: list[Done] = []
    collected = collect(request, told.append)
    assert (len(collected.measured), collected.failed, collected.not_begun) == (1, (), 0)
    assert [(done.number, done.total, done.left_s) for done in told] == [(1, 1, 0)]
    (run,) = read_dataset(tmp_path / "runs").runs
    assert {row.kind for row in run.units} == {unit.kind for unit in run.graph.units}
    assert run.steps[0].label == "keep all"
    assert len({step.schedule_json for step in run.steps}) == 2
    # Two passes of three repetitions each.
    assert all(len(step.step_times_s) == 6 for step in run.steps)
    assert run.setting.threads == 1
    assert run.measured.optimizer_s > 0
    again = collect(request)
    assert (again.measured, again.skipped) == ((), 1)
    # A shard that was cut short is measured again.
    shard = tmp_path / "runs" / collected.measured[0]
    shard.write_bytes(shard.read_bytes()[:1000])
    assert collect(request).measured == (collected.measured[0],)
    assert not (tmp_path / "runs" / "unfinished").exists()


@pytest.mark.slow
def test_a_schedule_that_processes_die_of_is_a_row_and_the_others_are_measured(
    tmp_path: Path,
) -> None:
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    request = _request(tmp_path / "runs", _subjects([4], deaths=str(deaths)))
    collected = collect(request)
    assert len(collected.measured) == 1
    (run,) = read_dataset(tmp_path / "runs").runs
    kept, recomputed = run.steps
    assert (kept.label, kept.status, recomputed.status) == ("keep all", "ok", KILLED)
    assert "killed" in recomputed.detail
    assert len(run.units) > 0
    assert len(list(deaths.iterdir())) == 2


def test_a_model_that_cannot_be_built_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    (good,) = _subjects([2])
    bad = replace(good, values={"batch": 2, "no_such_value": 1})
    collected = collect(_request(tmp_path / "runs", (bad, good), schedules=1))
    assert len(collected.measured) == 1
    (sentence,) = collected.failed
    assert "no_such_value" in sentence


@pytest.mark.slow
def test_a_killed_collection_goes_on_where_it_was(tmp_path: Path) -> None:
    words = [
        *("model=custom", f"model.target={TARGET}", "batches=[2,3]", "threads=1"),
        *(f"dataset={tmp_path / 'runs'}", "repetitions=3", "schedules=2", f"out={tmp_path}"),
    ]
    command = [sys.executable, "-m", "remora.cli.main", "profile", *words]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "1 subjects measured, 1 were there already, 0 failed" in done.stdout
    assert len(read_dataset(tmp_path / "runs").runs) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedules": 0}, "schedules is 0, allowed: 1 or more"),
        ({"repetitions": 2}, "repetitions is 2, allowed: 3 or more"),
        ({"part": 2, "parts": 2}, "part is 2, allowed with parts=2: 0 to 1"),
        ({"threads": 0}, "threads is 0, allowed: 1 or more, or null"),
        ({"round": -1}, "round is -1"),
    ],
)
def test_wrong_numbers_are_named(tmp_path: Path, values: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ProfileRequest(_subjects([2]), tmp_path, **values)  # type: ignore[arg-type]


def test_an_unknown_optimizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="adamv"):
        ProfileRequest(_subjects([2]), tmp_path, optimizer="adamv")


@pytest.mark.slow
def test_jobs_of_a_sweep_share_one_dataset(tmp_path: Path) -> None:
    words = [
        *("model=custom", f"model.target={TARGET}", "batches=[2,3]", "threads=1", "parts=2"),
        *("repetitions=3", "schedules=1", "part=0,1", f"dataset={tmp_path / 'runs'}"),
        *(f"out={tmp_path / 'sweep'}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    ]
    command = [sys.executable, "-m", "remora.cli.main", "profile", "-m", *words]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    dataset = read_dataset(tmp_path / "runs")
    assert {run.subject.batch for run in dataset.runs} == {2, 3}
    assert (tmp_path / "runs" / "README.md").read_text().startswith("# Profiled runs")
