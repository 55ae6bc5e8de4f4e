"""Policies on disk: the same plans after loading, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from remora.agents.learned.decoding import Decoder
from remora.agents.learned.policy_files import (
    load_policy,
    pretrained_names,
    pretrained_path,
    save_policy,
)
from remora.envs.episode import Episode
from remora.errors import FileFormatError, UnknownNameError
from tests.agents.learned.policies import untrained
from tests.envs.toy import toy_tables


def _edit_card(path: Path, **changes: Any) -> None:
    card = json.loads((path / "card.json").read_text())
    (path / "card.json").write_text(json.dumps({**card, **changes}))


def test_a_loaded_policy_decides_alike(tmp_path: Path) -> None:
    network = untrained()
    save_policy(tmp_path / "policy", network, {"seed": 3})
    loaded, card = load_policy(tmp_path / "policy")
    assert card == {"seed": 3}
    assert loaded.size == network.size
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name
    tables = toy_tables()
    start = Episode(tables, tables.budget_bytes(0.3))
    assert Decoder(loaded, start).greedy().decisions == Decoder(network, start).greedy().decisions


def test_a_policy_folder_holds_weights_and_plain_json_only(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", untrained(), {})
    names = sorted(path.name for path in (tmp_path / "policy").iterdir())
    assert names == ["card.json", "weights.safetensors"]


def test_a_file_that_names_code_is_refused(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", untrained(), {})
    _edit_card(tmp_path / "policy", card={"deep": [{"_target_": "os.system"}]})
    with pytest.raises(FileFormatError, match="_target_"):
        load_policy(tmp_path / "policy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "has version 2; allowed: up to 1"),
        ({"version": "x"}, "has version 'x'"),
        ({"inputs": {}}, "was trained on other observations"),
        ({"size": {"width": 32, "layers": 1, "heads": 2}}, "another size"),
        ({"size": {"width": 16, "depth": 1}}, "another size"),
    ],
)
def test_cards_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_policy(tmp_path / "policy", untrained(), {})
    _edit_card(tmp_path / "policy", **changes)
    with pytest.raises(FileFormatError, match=message):
        load_policy(tmp_path / "policy")


def test_an_unknown_network_names_the_known_ones(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", untrained(), {})
    _edit_card(tmp_path / "policy", policy="unit_graph_point")
    with pytest.raises(UnknownNameError, match="unit_graph_pointer"):
        load_policy(tmp_path / "policy")


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", untrained(), {})
    weights = tmp_path / "policy" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match=r"weights\.safetensors"):
        load_policy(tmp_path / "policy")


def test_every_shipped_policy_loads_and_says_where_it_comes_from() -> None:
    assert "default" in pretrained_names()
    for name in pretrained_names():
        _, card = load_policy(pretrained_path(name))
        assert {"data", "command", "commit", "seed", "quality"} <= set(card)
    with pytest.raises(UnknownNameError, match="default"):
        pretrained_path("defualt")
