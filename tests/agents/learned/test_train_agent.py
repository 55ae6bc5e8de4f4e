"""From a configuration to a saved policy with its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.policy_files import load_policy
from remora.api.configs import config_names
from remora.api.train_agent import experiment_config, train_agent, train_agent_config
from remora.errors import InvalidInputError, UnknownNameError
from remora.tracking.csv_tracker import CsvTracker
from remora.tracking.none_tracker import NoneTracker


def test_the_fast_experiment_trains_compares_and_saves_the_same_twice(tmp_path: Path) -> None:
    config = experiment_config("learned_fast")
    tracker = CsvTracker(tmp_path / "csv")
    trained = train_agent(config, tmp_path / "a", tracker, command="remora train-agent")
    network, card = load_policy(trained.path)
    assert isinstance(network, PlanNetwork)
    assert card["command"] == "remora train-agent"
    assert card["seed"] == 0
    assert card["config"]["env"]["models"] == ["resnet_tiny"]
    assert set(card["quality"]) == {
        "learned_greedy over ladder",
        "learned_greedy over random",
        "learned_greedy over untrained",
        "learned_samples over ladder",
        "learned_samples over random",
        "learned_samples over untrained",
    }
    again = train_agent(config, tmp_path / "b", NoneTracker())
    weights, weights_again = network.state_dict(), load_policy(again.path)[0].state_dict()
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    assert trained.comparisons == again.comparisons
    assert (tmp_path / "csv" / "comparison.csv").is_file()
    assert json.loads((tmp_path / "csv" / "status.json").read_text()) == {"status": "done"}


@pytest.mark.parametrize("name", config_names("experiment"))
def test_every_shipped_experiment_can_be_read(name: str) -> None:
    config = experiment_config(name)
    assert config.env.models
    held_out = set(config.evaluation.models) - set(config.env.models)
    assert name == "learned_fast" or held_out == set(config.evaluation.models)


def test_a_crash_is_recorded_as_such(tmp_path: Path) -> None:
    config = train_agent_config({"env": {"config": "one_model", "max_units": 2}})
    tracker = CsvTracker(tmp_path / "csv")
    with pytest.raises(InvalidInputError, match="max_units is 2"):
        train_agent(config, tmp_path, tracker)
    assert json.loads((tmp_path / "csv" / "status.json").read_text()) == {"status": "crashed"}


def test_unknown_keys_name_the_closest_ones() -> None:
    with pytest.raises(UnknownNameError, match="total_steps"):
        train_agent_config({"training": {"total_step": 5}})
    with pytest.raises(UnknownNameError, match="budget_low"):
        train_agent_config({"env": {"budget_lo": 0.1}})
    with pytest.raises(UnknownNameError, match="training"):
        train_agent_config({"trainin": {}})
    with pytest.raises(UnknownNameError, match="learned_fast"):
        experiment_config("learned_fas")
    with pytest.raises(InvalidInputError, match=r"env\.models is \(\)"):
        train_agent_config({"env": {"models": ()}})
