from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from remora.errors import FileFormatError
from remora.tracking import artifacts
from remora.tracking.artifacts import CARD_NAME, WEIGHTS_NAME, load_artifact, save_artifact

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1, dtype=torch.int64)}
CARD = {"name": "policy", "seed": 1, "data": ["gpt2_tiny"]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_artifact(tmp_path / "policy", TENSORS, CARD)
    tensors, card = load_artifact(tmp_path / "policy")
    assert card == CARD
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_tied_and_strided_weights_are_saved(tmp_path: Path) -> None:
    base = torch.rand(3, 4, requires_grad=True)
    save_artifact(tmp_path / "p", {"x": base, "y": base, "z": base.T}, {})
    tensors, _ = load_artifact(tmp_path / "p")
    assert torch.equal(tensors["x"], tensors["y"])
    assert torch.equal(tensors["z"], base.T)


def test_an_older_artifact_is_replaced_whole(tmp_path: Path) -> None:
    save_artifact(tmp_path / "p", TENSORS, {"n": 1})
    (tmp_path / "p" / "extra").write_text("")
    save_artifact(tmp_path / "p", TENSORS, {"n": 2})
    assert load_artifact(tmp_path / "p")[1] == {"n": 2}
    assert sorted(os.listdir(tmp_path)) == ["p"]
    assert sorted(os.listdir(tmp_path / "p")) == [CARD_NAME, WEIGHTS_NAME]


def test_an_interruption_leaves_the_old_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_artifact(tmp_path / "p", TENSORS, {"n": 1})

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artifacts, "_replace_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_artifact(tmp_path / "p", TENSORS, {"n": 2})
    assert load_artifact(tmp_path / "p")[1] == {"n": 1}
    assert os.listdir(tmp_path) == ["p"]


def test_code_is_refused_at_any_depth(tmp_path: Path) -> None:
    evil = {"network": [{"_target_": "os.system"}]}
    with pytest.raises(FileFormatError, match="_target_"):
        save_artifact(tmp_path / "p", TENSORS, evil)
    save_artifact(tmp_path / "p", TENSORS, CARD)
    (tmp_path / "p" / CARD_NAME).write_text('{"network": [{"_target_": "os.system"}]}')
    with pytest.raises(FileFormatError, match=r"card\.json holds the key '_target_'"):
        load_artifact(tmp_path / "p")


@pytest.mark.parametrize("name", [CARD_NAME, WEIGHTS_NAME])
def test_files_cut_short_or_missing_are_named(name: str, tmp_path: Path) -> None:
    save_artifact(tmp_path / "p", TENSORS, CARD)
    path = tmp_path / "p" / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FileFormatError, match=name):
        load_artifact(tmp_path / "p")
    path.unlink()
    with pytest.raises(FileFormatError, match=name):
        load_artifact(tmp_path / "p")
