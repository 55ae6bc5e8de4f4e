from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from remora.agents.learned.policy_files import load_policy
from remora.api.agent_training.config import AgentTrainingConfig, agent_training_config
from remora.api.agent_training.train import POLICY_FOLDER, RESULT_NAME, TrainedAgent, train_agent
from remora.api.policy_labels import make_policy_labels
from remora.errors import FileFormatError, InvalidInputError, UnknownNameError
from remora.schedule.inference import Mode
from remora.tracking.registry import create

VALUES: Mapping[str, Any] = {
    "labels": {"env": "joint_one_model", "count": 2, "one_device_s": 0.05},
    "validation": {"env": "joint_one_model", "count": 1, "seed": 1, "one_device_s": 0.05},
    "network": {"width": 8, "rounds": 1, "heads": 2},
    "cloning": {"epochs": 3, "validate_every": 1},
    "lookahead": {"count": 2, "epochs": 2},
    "ppo": {
        "total_steps": 96,
        "num_envs": 2,
        "steps_per_env": 16,
        "batch_size": 16,
        "epochs": 1,
        "checkpoint_every": 1,
    },
    "rounds": {
        "count": 1,
        "epochs": 1,
        "round": {"samples": 1, "polished": 1, "evaluations": 5},
    },
    "evaluation": {"schedulers": ["greedy"], "samples": 1, "time_limit_s": 0.5, "pictures": 1},
}


class Stopping:
    """A tracker whose run is stopped from outside after so many rows."""

    def __init__(self, rows: int) -> None:
        self._left = rows

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt

    def start(self, config: Mapping[str, Any]) -> None: ...
    def log_table(self, name: str, columns: Any, rows: Any) -> None: ...
    def log_artifact(self, name: str, kind: str, path: Path) -> None: ...
    def log_picture(self, name: str, path: Path) -> None: ...
    def finish(self, status: str = "done") -> None: ...


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    for name in ("labels", "validation"):
        chosen = VALUES[name]
        make_policy_labels(
            folder / name,
            chosen["count"],
            chosen["env"],
            chosen.get("seed", 0),
            chosen["one_device_s"],
        )
    return folder


@pytest.fixture(scope="module")
def config(labels: Path) -> AgentTrainingConfig:
    values = {
        **VALUES,
        **{
            name: {**VALUES[name], "folder": str(labels / name)}
            for name in ("labels", "validation")
        },
    }
    return agent_training_config(values)


@pytest.fixture(scope="module")
def trained(
    config: AgentTrainingConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainedAgent]:
    out = tmp_path_factory.mktemp("whole")
    return out, train_agent(config, out, create("none"), command="remora train-agent")


def test_a_training_leaves_a_policy_with_a_card_and_a_comparison(
    trained: tuple[Path, TrainedAgent],
) -> None:
    out, agent = trained
    policy = load_policy(out / POLICY_FOLDER)
    assert policy.card["command"] == "remora train-agent"
    assert policy.card["validation_regret"] == agent.regret
    methods = {answer.method for answer in agent.answers}
    assert methods == {"policy, greedy", "policy, samples", "greedy"}
    result = json.loads((out / RESULT_NAME).read_text())
    assert result["stages"] == ["cloning", "lookahead", "ppo", "rounds"]
    assert {row[0] for row in result["rows"]} == methods
    assert len(list(out.glob("timeline_*.png"))) == 1


@pytest.mark.parametrize("rows", [2, 6, 9, 13])
def test_a_stopped_training_goes_on_to_the_same_weights(
    rows: int, config: AgentTrainingConfig, trained: tuple[Path, TrainedAgent], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_agent(config, tmp_path, Stopping(rows))
    assert not (tmp_path / POLICY_FOLDER).exists()
    train_agent(config, tmp_path, create("none"), resume=True)
    mine = load_file(tmp_path / POLICY_FOLDER / "weights.safetensors")
    whole = load_file(trained[0] / POLICY_FOLDER / "weights.safetensors")
    assert mine.keys() == whole.keys()
    assert all((mine[name] == whole[name]).all() for name in whole)


def test_a_policy_of_passes_is_trained_and_a_stopped_training_goes_on(tmp_path: Path) -> None:
    labels = {"count": 1, "one_device_s": 0.2, "pipeline_s": 0.2}
    values = {
        **VALUES,
        "labels": {**labels, "env": "passes"},
        "validation": {**labels, "env": "passes_validation"},
        "evaluation": {**VALUES["evaluation"], "schedulers": ["stream_fewest"]},
    }
    config = agent_training_config(values)
    with pytest.raises(KeyboardInterrupt):
        train_agent(config, tmp_path / "stopped", Stopping(6))
    train_agent(config, tmp_path / "stopped", create("none"), resume=True)
    mixed = {**values, "validation": {**labels, "env": "joint_validation"}}
    with pytest.raises(InvalidInputError, match="allowed: one of mode 'inference', as"):
        train_agent(agent_training_config(mixed), tmp_path / "mixed", create("none"))
    for name in ("labels", "validation"):
        # What teachers show within so little time depends on the machine.
        values[name] = {**values[name], "folder": str(tmp_path / "stopped" / name)}
    train_agent(agent_training_config(values), tmp_path / "whole", create("none"))
    assert load_policy(tmp_path / "whole" / POLICY_FOLDER).mode is Mode.INFERENCE
    weights = (
        tmp_path / run / POLICY_FOLDER / "weights.safetensors" for run in ("whole", "stopped")
    )
    whole, mine = map(load_file, weights)
    assert all((mine[name] == whole[name]).all() for name in whole)


def test_the_folder_of_another_training_is_left_alone(
    config: AgentTrainingConfig, trained: tuple[Path, TrainedAgent], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="has a training; allowed: another folder"):
        train_agent(config, trained[0], create("none"))
    with pytest.raises(FileFormatError, match="no training to resume"):
        train_agent(config, tmp_path, create("none"), resume=True)
    other = agent_training_config({**VALUES, "seed": 5})
    with pytest.raises(FileFormatError, match="other values"):
        train_agent(other, trained[0], create("none"), resume=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clonning": {}}, "cloning"),
        ({"cloning": {"epoch": 3}}, "epochs"),
        ({"stages": ["ppo", "dagger"]}, "dagger"),
        ({"stages": ["rounds"]}, "start is None"),
        ({"stages": ["ppo", "ppo"]}, "each once"),
        ({"labels": {"count": 0}}, "labels.count is 0"),
        ({"network": {"encoder": "gat"}}, "gnn"),
        ({"evaluation": {"time_limit_s": 0}}, "above 0"),
        ({"rounds": {"round": {"samples": 0}}}, "round.samples is 0"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        agent_training_config(values)
