"""Policies on disk: the same plans after loading, and files that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from remora.agents.learned.decoding import Decoder
from remora.agents.learned.policy_files import Policy, load_policy, save_policy
from remora.envs import actions
from remora.errors import FileFormatError, InvalidInputError, UnknownNameError
from tests.agents.learned.policies import opinionated
from tests.envs.problems import tables_of

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_policy(tmp_path / "policy", Policy(opinionated(), 40, {"seed": 3}))
    return tmp_path / "policy"


def _edit(path: Path, change: Change) -> None:
    card = json.loads((path / "card.json").read_text())
    change(card)
    (path / "card.json").write_text(json.dumps(card))


def test_a_loaded_policy_decides_alike(path: Path) -> None:
    network, loaded = opinionated(), load_policy(path)
    assert (loaded.max_units, loaded.card) == (40, {"seed": 3})
    assert loaded.network.size == network.size
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, loaded.network.state_dict()[name]), name
    tables = tables_of("toy")
    budget = tables.budget_bytes(0.3)
    plans = [Decoder(each, tables, budget).greedy() for each in (network, loaded.network)]
    assert plans[0] == plans[1]


def test_a_folder_holds_weights_and_plain_json_only(path: Path) -> None:
    assert sorted(each.name for each in path.iterdir()) == ["card.json", "weights.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(card={"deep": [{"_target_": "os.system"}]}), "_target_"),
        (lambda c: c.update(version=2), "has version 2; allowed: 1"),
        (lambda c: c.pop("version"), "has version None; allowed: 1"),
        (lambda c: c.update(mode="sleep"), "has mode='sleep'; allowed: train, inference"),
        (lambda c: c.update(observation_version=0), "has observation_version 0; allowed: "),
        (lambda c: c["inputs"]["kinds"].append("zigzag x 2"), "trained on other kinds"),
        (lambda c: c["inputs"]["state"].pop(), "trained on other state"),
        (lambda c: c.update(inputs=None), "trained on other kinds"),
        (lambda c: c["size"].update(width=32), "weights that are not of the size"),
        (lambda c: c["size"].update(depth=1), "a network size that is not allowed"),
        (lambda c: c["size"].update(width=0), r"network\.width is 0"),
        (lambda c: c["size"].update(encoder="x"), "unknown encoder 'x'"),
        (lambda c: c.update(size=3), "a network size that is not allowed"),
        (lambda c: c.update(max_units=0), "has max_units=0; allowed: 1 or more"),
    ],
)
def test_cards_that_do_not_fit_are_refused(path: Path, change: Change, message: str) -> None:
    _edit(path, change)
    with pytest.raises(FileFormatError, match=message):
        load_policy(path)


def test_other_kinds_of_pipelines_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from remora.agents.learned import policy_files

    monkeypatch.setattr(policy_files, "KINDS", actions.KINDS[:-1])
    with pytest.raises(FileFormatError, match="trained on other kinds than this version has"):
        load_policy(path)


def test_an_unknown_network_names_the_known_ones(path: Path) -> None:
    _edit(path, lambda card: card.update(policy="joint_plans"))
    with pytest.raises(UnknownNameError, match="did you mean 'joint_plan'"):
        load_policy(path)


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
def test_a_file_that_is_cut_short_or_missing_is_named(path: Path, name: str) -> None:
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match=name):
        load_policy(path)
    (path / name).unlink()
    with pytest.raises(FileFormatError, match=name):
        load_policy(path)


def test_a_model_that_is_too_large_is_refused(path: Path) -> None:
    policy = load_policy(path)
    policy.check_units(40)
    with pytest.raises(InvalidInputError, match="has 41 units; allowed for this policy: up to 40"):
        policy.check_units(41)
