"""Runs that die, hang or find the disk full: exit code, record, and a next run that works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remora.cli.main import main
from tests.api.living import living
from tests.report.full_disk import largest_file

MODEL = ("model=custom", "model.target=tests.api.faulty_model:make_faulty")
REPOSITORY = Path(__file__).parents[2]
LIMIT_S = 200.0

Folder = Callable[[int], Path]


@pytest.fixture(scope="module")
def plan_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Folders of plans for one and for two ranks, made when they are asked for."""
    root = tmp_path_factory.mktemp("plans")

    def folder(world_size: int) -> Path:
        path = root / str(world_size)
        if not path.exists():
            wanted = ("memory=range:0.9", "agent=greedy", f"world_size={world_size}")
            assert main(["optimize", *MODEL, *wanted, f"out={path}"]) == 0
        return path

    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The command adds the current folder, and the model's module is found by this one.
    monkeypatch.setattr("sys.path", [*sys.path, str(REPOSITORY)])


def _arguments(plan: Path, fault: str, limit_s: float = LIMIT_S) -> list[str]:
    values = (f"+model.values.fault={fault}", "+model.values.reached=reached")
    return ["verify", *MODEL, *values, f"schedule={plan}", "out=run", f"time_limit_s={limit_s}"]


def _verify(plan: Path, fault: str, limit_s: float = LIMIT_S) -> tuple[int, dict[str, Any]]:
    """The exit code and the record; nothing else may be left."""
    with living() as processes:
        code = main(_arguments(plan, fault, limit_s))
        assert processes.all_gone()
    files = {path.name for path in Path("run").iterdir()}
    assert files - {"timeline.json"} == {"report.html", "verification.json"}
    return code, json.loads(Path("run/verification.json").read_text())


@pytest.mark.parametrize(
    ("world_size", "fault", "status", "words"),
    [
        (1, "kill", "out_of_memory", "the process was"),
        pytest.param(2, "kill", "out_of_memory", "rank 1 was killed", marks=pytest.mark.slow),
        pytest.param(1, "hunger", "out_of_memory", "RuntimeError", marks=pytest.mark.slow),
        pytest.param(2, "hunger", "out_of_memory", "rank 1 ended with", marks=pytest.mark.slow),
        pytest.param(1, "error", "crashed", "ValueError: the last", marks=pytest.mark.slow),
        pytest.param(2, "error", "crashed", "rank 1 ended with", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_dies_is_recorded(
    world_size: int,
    fault: str,
    status: str,
    words: str,
    plan_folder: Folder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, record = _verify(plan_folder(world_size), fault)
    assert code == 5
    assert record["failures"] == ["run_failed"]
    assert record["measurement"]["status"] == status
    assert words in record["detail"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"remora: the measured run died: {record['detail']}"


@pytest.mark.slow
def test_a_model_that_one_rank_cannot_build_is_told(
    plan_folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_folder(2)
    with living() as processes:
        assert main(_arguments(plan, "build")) == 5
        assert processes.all_gone()
    assert "KeyError: 'no such weights here'" in capsys.readouterr().err.splitlines()
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_that_hangs_is_recorded(world_size: int, plan_folder: Folder) -> None:
    for limit_s in (15.0, 60.0):
        code, record = _verify(plan_folder(world_size), "hang", limit_s)
        if Path("reached").exists():
            break
    assert code == 5
    assert record["measurement"]["status"] == "timed_out"
    who = "the process" if world_size == 1 else "rank 1"
    assert f"; {who} was in _fail (faulty_model.py, line " in record["detail"]


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_an_interruption_ends_all_ranks(world_size: int, plan_folder: Folder) -> None:
    plan = plan_folder(world_size)
    with living() as processes:
        command = subprocess.Popen(
            [sys.executable, "-m", "remora.cli.main", *_arguments(plan, "hang")],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        try:
            _wait_for(Path("reached"))
            command.send_signal(signal.SIGINT)
            _, words = command.communicate(timeout=30.0)
            assert processes.all_gone()
        finally:
            command.kill()
            command.wait()
    assert command.returncode == 130
    assert words.splitlines()[-1] == "remora: interrupted"
    assert not Path("run/verification.json").exists()
    # What is planned can be run once the fault is gone.
    assert _verify(plan, "none")[0] == 0


def _wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_full_disk_is_one_sentence(
    plan_folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_folder(1)
    with largest_file(2**20):
        assert main(_arguments(plan, "none")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "remora: run/report.html cannot be written: File too large"
    written = {path.name for path in Path("run").iterdir()}
    assert written == {"verification.json", "timeline.json"}
    assert json.loads(Path("run/verification.json").read_text())["passed"]


@pytest.mark.slow
def test_a_folder_that_is_a_file_is_one_sentence(
    plan_folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run").write_text("not a folder")
    assert main(_arguments(plan_folder(1), "none")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "remora: run/verification.json cannot be written: File exists"
