from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from remora.errors import InvalidInputError, UnknownNameError
from remora.report.scatter_picture import Points, scatter_png
from remora.tracking.registry import TRACKERS, create
from remora.tracking.tracker import Tracker, tracked

CONFIG = {"model": {"name": "gpt2"}, "seed": 3}


def _make(name: str, folder: Path) -> Tracker:
    values: dict[str, Any] = {} if name == "none" else {"folder": str(folder)}
    return create(name, **values)


def _use(tracker: Tracker, artifact: Path) -> None:
    with tracked(tracker, CONFIG):
        tracker.log_metrics({"loss": 1.5, "reward": -0.25}, 0)
        tracker.log_metrics({"loss": 1.25}, 1)
        tracker.log_table("plans", ("name", "time_s"), [("greedy", 0.1), ("rotor", 0.2)])
        tracker.log_artifact("policy", "policy", artifact)
        tracker.log_picture("picture", _picture(artifact.parent))


def _picture(folder: Path) -> Path:
    path = folder / "picture.png"
    path.write_bytes(scatter_png(Points(("a",), (1.0,), (2.0,)), "seconds"))
    return path


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def _artifact(tmp_path: Path) -> Path:
    path = tmp_path / "card.json"
    path.write_text("{}")
    return path


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_every_tracker_lives_through_a_run_twice(name: str, tmp_path: Path) -> None:
    artifact = _artifact(tmp_path)
    for number in range(2):
        _use(_make(name, tmp_path / str(number)), artifact)


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_every_tracker_is_finished_when_the_run_crashes(name: str, tmp_path: Path) -> None:
    tracker = _make(name, tmp_path)
    with pytest.raises(ZeroDivisionError), tracked(tracker, CONFIG):
        raise ZeroDivisionError
    tracker.finish()


def test_csv_files_hold_everything(tmp_path: Path) -> None:
    artifact = _artifact(tmp_path)
    _use(create("csv", folder=tmp_path / "run"), artifact)
    folder = tmp_path / "run"
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    assert json.loads((folder / "status.json").read_text()) == {"status": "done"}
    assert _rows(folder / "metrics.csv") == [
        ["step", "name", "value"],
        ["0", "loss", "1.5"],
        ["0", "reward", "-0.25"],
        ["1", "loss", "1.25"],
    ]
    assert _rows(folder / "plans.csv")[1] == ["greedy", "0.1"]
    assert _rows(folder / "artifacts.csv")[1][0] == "policy"


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "crashed"), (KeyboardInterrupt, "interrupted")]
)
def test_csv_status_says_how_the_run_ended(
    error: type[BaseException], status: str, tmp_path: Path
) -> None:
    with pytest.raises(error), tracked(create("csv", folder=tmp_path), CONFIG):
        raise error
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": status}


def test_tensorboard_scalars_are_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _use(create("tensorboard", folder=tmp_path / "tb"), _artifact(tmp_path))
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [scalar.value for scalar in events.Scalars("loss")] == [1.5, 1.25]


def test_wandb_is_offline_by_default_and_writes_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    _use(create("wandb", folder=tmp_path), _artifact(tmp_path))
    runs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1


def test_wandb_mode_comes_from_the_value_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "sideways")
    with pytest.raises(InvalidInputError, match="'sideways', allowed: offline, online, disabled"):
        create("wandb")
    create("wandb", mode="disabled")


def test_unknown_trackers_and_values_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'wandb'"):
        create("wandbs")
    with pytest.raises(UnknownNameError, match="did you mean 'folder'"):
        create("csv", foldr="x")
