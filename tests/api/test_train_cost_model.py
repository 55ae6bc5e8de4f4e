"""Training the cost model by the command: files, figures, interruption, wrong input."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remora.cli.main import main
from remora.cost_models.gnn.weights import load_cost_model
from remora.tracking.artifacts import WEIGHTS_NAME

REPOSITORY = Path(__file__).parents[2]
FAST = [
    "dataset=runs",
    "held_out_share=0.3",
    "training.folds=2",
    "training.op.epochs=3",
    "training.op.members=2",
    "training.op.width=16",
    "training.op.layers=1",
    "training.step.epochs=3",
    "training.step.hidden=8",
    "tracker=csv",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for model in ("fno2d", "unet"):
        shards = sorted((REPOSITORY / "benchmarks" / "profiled_runs").glob(f"{model}-*-r0.parquet"))
        for shard in shards[:3]:
            (tmp_path / "runs" / shard.name).symlink_to(shard)
    monkeypatch.setattr("sys.path", list(sys.path))


def test_a_training_leaves_a_model_pictures_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*FAST, "out=run", "tracker.folder=tracked"]
    assert main(["train-cost-model", *words]) == 0
    shown = capsys.readouterr().out
    assert "covered" in shown
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "cost_model",
        "units.png",
        "steps.png",
        "bounds.png",
    }
    _, card = load_cost_model(tmp_path / "run" / "cost_model")
    assert card["data"]["runs"] == 6
    assert card["quality"]["all"]["unit_error"] > 0
    assert card["versions"]["torch"]
    with (tmp_path / "tracked" / "metrics.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert {name.partition("/")[0] for name in names} == {"op", "fold", "step"}
    with (tmp_path / "tracked" / "artifacts.csv").open() as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert sorted(kinds) == ["cost_model", "dataset", "picture", "picture", "picture"]
    quality = json.loads((tmp_path / "run" / "cost_model" / "card.json").read_text())
    assert quality["cost_model"] == "gnn"


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    assert main(["train-cost-model", *FAST, "out=whole"]) == 0
    command = [sys.executable, "-m", "remora.cli.main", "train-cost-model", *FAST, "out=cut"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("cut/checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "cost_model").exists()
    assert main(["train-cost-model", *FAST, "out=cut", "resume=true"]) == 0
    weights = [tmp_path / name / "cost_model" / WEIGHTS_NAME for name in ("whole", "cut")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_unfinished_training_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "op.checkpoint").touch()
    assert main(["train-cost-model", *FAST, "out=run"]) == 2
    assert "unfinished training; allowed: another folder, or resume=true" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=nowhere"], "there is no folder of profiled runs nowhere"),
        (["held_out_share=1.5"], "share is 1.5, allowed: above 0 and below 1"),
        (["leave_out=decodr"], "decodr"),
        (["training.folds=1"], "training.folds is 1, allowed: 2 or more"),
        (["training.op.epochs=0"], "epochs is 0"),
        (["training.op.epoch=1"], "epochs"),
        (["resume=true"], "there is no training to resume in run"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-cost-model", *FAST, "out=run", *words]) == 2
    assert message in capsys.readouterr().err
