"""Trained cost models on disk: what is read, and what is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remora.cost_models.gnn.weights import (
    DEFAULT,
    load_cost_model,
    pretrained_names,
    pretrained_path,
    save_cost_model,
)
from remora.errors import FileFormatError, UnknownNameError
from remora.tracking.artifacts import CARD_NAME, WEIGHTS_NAME
from tests.problems import cpu_hardware, toy_graph


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model, card = load_cost_model(pretrained_path(DEFAULT))
    save_cost_model(tmp_path / "model", model, card)
    return tmp_path / "model"


def _change(path: Path, **values: object) -> None:
    card = json.loads((path / CARD_NAME).read_text())
    (path / CARD_NAME).write_text(json.dumps({**card, **values}))


def test_a_saved_model_predicts_the_same(saved: Path) -> None:
    first, _ = load_cost_model(pretrained_path(DEFAULT))
    second, card = load_cost_model(saved)
    graph, hardware = toy_graph(), cpu_hardware()
    assert first.costs(graph, hardware, "adamw") == second.costs(graph, hardware, "adamw")
    assert set(card) >= {"data", "quality", "training", "command", "date", "versions"}


def test_the_package_has_a_small_model() -> None:
    assert DEFAULT in pretrained_names()
    size = sum(path.stat().st_size for path in pretrained_path(DEFAULT).iterdir())
    assert size < 4_000_000
    with pytest.raises(UnknownNameError, match="defalt"):
        pretrained_path("defalt")


def test_weights_that_are_cut_short_are_named(saved: Path) -> None:
    weights = saved / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(FileFormatError, match="cut short or garbled"):
        load_cost_model(saved)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 99}, "has version 99; allowed: up to 1"),
        ({"cost_model": "trees"}, "holds cost_model 'trees'; allowed: 'gnn'"),
        ({"operators": None}, "lacks the values of 'operators'"),
        ({"steps": {}}, "weights of the step model do not fit"),
        ({"extra": {"_target_": "os.system"}}, "_target_"),
    ],
)
def test_cards_that_do_not_fit_are_named(
    saved: Path, values: dict[str, object], message: str
) -> None:
    _change(saved, **values)
    with pytest.raises(FileFormatError, match=message):
        load_cost_model(saved)
