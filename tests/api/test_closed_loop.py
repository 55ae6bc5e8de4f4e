"""The closed loop on a real model and on this machine, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from remora.cli.main import main
from remora.cost_models.dataset.dataset import read_dataset

MODEL = ["model=fno2d_tiny", "cost_model=gnn", "hardware.host_pool=emulated", "memory=range:0.4"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))


def test_two_rounds_measure_learn_and_keep_what_they_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*MODEL, "agent=best", "rounds=2", "top_k=1", "time_limit_s=1", "out=plan"]
    assert main(["optimize", *words]) == 0
    shown = capsys.readouterr().out
    assert "fastest that passed" in shown
    assert "Predicted by cost model gnn, as asked for." in shown
    first, second = json.loads((tmp_path / "plan" / "rounds.json").read_text())["rounds"]
    assert (first["number"], first["measured"], first["failed"]) == (1, 1, 0)
    assert second["best_s"] <= first["best_s"]
    (run,) = read_dataset(tmp_path / "plan" / "profiled_runs").runs
    assert len(run.steps) == first["measured"] + second["measured"]
    assert run.subject.family == "spectral"
    verdict = json.loads((tmp_path / "plan" / "verification.json").read_text())
    assert verdict["passed"]
    measured_s = min(step.step_time_s for step in run.steps)
    assert verdict["measurement"]["step_time_s"] == pytest.approx(measured_s)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cost_model=roofline", "rounds=2"], "cost_model is 'roofline', allowed with several"),
        (["rounds=0"], "rounds is 0, allowed: 1 or more"),
        (["rounds=2", "top_k=0"], "top_k is 0, allowed: 1 or more"),
        (["rounds=2", "world_size=2"], "world_size is 2"),
        (["rounds=2", "hardware=h100_sxm"], "hardware is"),
    ],
)
def test_a_loop_that_could_not_learn_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", *MODEL, *words]) == 2
    assert message in capsys.readouterr().err
