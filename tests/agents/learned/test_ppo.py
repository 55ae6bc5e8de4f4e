"""Training: real learning, the same for the same seed, the same after a stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.policy_files import Policy, load_policy
from remora.agents.learned.ppo import BEST_FOLDER, CHECKPOINT_NAME, START_FOLDER, train_ppo
from remora.agents.learned.ppo_config import PpoConfig
from remora.agents.learned.selection import Validation, ValidationProblem
from remora.errors import FileFormatError, InvalidInputError
from remora.tracking.none_tracker import NoneTracker
from tests.agents.learned.policies import SMALL, untrained
from tests.envs.problems import sampler_of, tables_of

SHORT = PpoConfig(
    total_steps=96,
    num_envs=2,
    steps_per_env=12,
    batch_size=12,
    epochs=2,
    checkpoint_every=1,
    network=SMALL,
)


class _Stopped(Exception):  # noqa: N818 - no error of the training
    pass


class _Recorder(NoneTracker):
    """Keeps what is logged; stops the training as a kill would, after so many rollouts."""

    def __init__(self, rollouts: int | None = None) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self._left = rollouts

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if "train/loss" in metrics and self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise _Stopped
        self.rows.append((step, dict(metrics)))


def _validation() -> Validation:
    tables = tables_of("gpt2_tiny")
    budgets = [tables.budget_bytes(share) for share in (0.1, 0.4)]
    return Validation([ValidationProblem(tables, b, tables.keep_all_s) for b in budgets])


def _train(
    folder: Path,
    config: PpoConfig = SHORT,
    resume: bool = False,
    network: PlanNetwork | None = None,
    stop_after: int | None = None,
) -> tuple[Policy, _Recorder]:
    tracker = _Recorder(stop_after)
    trained = train_ppo(sampler_of("toy"), _validation(), config, folder, tracker, network, resume)
    return trained, tracker


def _weights(folder: Path) -> torch.Tensor:
    """The weights that a training ended with, whether they were the best ones or not."""
    stored = torch.load(folder / CHECKPOINT_NAME, weights_only=True)["weights"]
    return torch.cat([stored[name].flatten() for name in sorted(stored)])


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    _, tracker = _train(tmp_path / "a")
    _train(tmp_path / "b")
    _train(tmp_path / "c", dataclasses.replace(SHORT, seed=1))
    assert torch.equal(_weights(tmp_path / "a"), _weights(tmp_path / "b"))
    assert not torch.equal(_weights(tmp_path / "a"), _weights(tmp_path / "c"))
    names = {name for _, metrics in tracker.rows for name in metrics}
    assert {"rollout/cost_mean", "train/value_loss", "train/worth_loss"} <= names
    assert [step for step, _ in tracker.rows] == sorted(step for step, _ in tracker.rows)
    rates = [m["train/learning_rate"] for _, m in tracker.rows if "train/learning_rate" in m]
    assert rates == pytest.approx([3e-4 * share for share in (1.0, 0.775, 0.55, 0.325)])


@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_a_run_that_was_killed_ends_like_one_that_was_not(
    tmp_path: Path, checkpoint_every: int
) -> None:
    config = dataclasses.replace(
        SHORT, total_steps=144, checkpoint_every=checkpoint_every, reference_weight=0.1
    )
    whole, tracker = _train(tmp_path / "whole", config, network=untrained(5))
    with pytest.raises(_Stopped):
        _train(tmp_path / "killed", config, network=untrained(5), stop_after=4)
    torch.manual_seed(99)
    resumed, rest = _train(tmp_path / "killed", config, resume=True)
    assert torch.equal(_weights(tmp_path / "whole"), _weights(tmp_path / "killed"))
    assert resumed.card == whole.card
    assert rest.rows == tracker.rows[-len(rest.rows) :]
    assert min(step for step, _ in rest.rows) == (120 if checkpoint_every == 1 else 96)


def test_time_ends_a_run_that_goes_on_all_the_same(tmp_path: Path) -> None:
    _train(tmp_path / "whole")
    short = dataclasses.replace(SHORT, max_seconds=1e-6)
    for _ in range(2):
        _train(tmp_path / "parts", short, resume=(tmp_path / "parts").is_dir())
    _, tracker = _train(tmp_path / "parts", resume=True)
    assert min(step for step, _ in tracker.rows) == 24
    assert torch.equal(_weights(tmp_path / "whole"), _weights(tmp_path / "parts"))


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    trained, _ = _train(tmp_path)
    before = _weights(tmp_path)
    again, tracker = _train(tmp_path, resume=True)
    assert torch.equal(before, _weights(tmp_path))
    assert again.card == trained.card
    assert not tracker.rows
    assert not list(tmp_path.glob(".*"))


def test_the_best_of_all_judged_networks_is_returned(tmp_path: Path) -> None:
    wild = dataclasses.replace(SHORT, learning_rate=0.3, max_units=30)
    trained, tracker = _train(tmp_path, wild)
    judged = [m["validation/regret"] for _, m in tracker.rows if "validation/regret" in m]
    assert len(judged) == 5
    assert len(set(judged)) > 1
    assert _validation().regret(trained.network) == min(judged)
    assert trained.card["validation_regret"] == min(judged)
    assert trained.max_units == 30
    assert load_policy(tmp_path / BEST_FOLDER).card == trained.card


def test_it_starts_from_a_given_network_and_can_be_held_close_to_it(tmp_path: Path) -> None:
    start = untrained(3)

    def distance(reference_weight: float) -> float:
        folder = tmp_path / str(reference_weight)
        config = dataclasses.replace(
            SHORT, learning_rate=0.01, reference_weight=reference_weight, entropy_weight=1.0
        )
        _, tracker = _train(folder, config, network=start)
        kept = load_policy(folder / START_FOLDER).network
        assert torch.equal(kept.reader.unit.weight, start.reader.unit.weight)
        return -sum(m.get("train/worth_loss", 0.0) for _, m in tracker.rows)

    assert distance(10.0) < distance(0.0)


def test_what_cannot_be_gone_on_from_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"there is no file .*resume\.pt to resume from"):
        _train(tmp_path, resume=True)
    _train(tmp_path)
    with pytest.raises(FileFormatError, match="a run with epochs=2, not 3"):
        _train(tmp_path, dataclasses.replace(SHORT, epochs=3), resume=True)
    path = tmp_path / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"resume\.pt is cut short"):
        _train(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, r"ppo\.batch_size is 7; allowed: a divisor of"),
        ({"total_steps": 0}, r"ppo\.total_steps is 0; allowed: 1 or more"),
        ({"learning_rate": 0.0}, r"ppo\.learning_rate is 0\.0; allowed: more than 0"),
        ({"max_seconds": -1.0}, r"ppo\.max_seconds is -1\.0"),
        ({"gae_lambda": 1.5}, r"ppo\.gae_lambda is 1\.5; allowed: 0 to 1"),
        ({"entropy_weight": -1.0}, r"ppo\.entropy_weight is -1\.0; allowed: 0 or more"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(
    changes: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(SHORT, **changes)


def test_a_reference_weight_needs_a_network(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"ppo\.reference_weight is 0\.1 and there is no"):
        _train(tmp_path, dataclasses.replace(SHORT, reference_weight=0.1))


def test_a_validation_needs_problems_with_step_times() -> None:
    with pytest.raises(InvalidInputError, match="validation is empty"):
        Validation([])
    with pytest.raises(InvalidInputError, match=r"best_known_s of 'toy/adamw' is 0\.0"):
        Validation([ValidationProblem(tables_of("toy"), 2**30, 0.0)])


@pytest.mark.slow
def test_training_finds_what_the_first_preferences_would_give_away(tmp_path: Path) -> None:
    network = untrained()
    with torch.no_grad():
        network.action_head.outlook.weight.zero_()
    config = dataclasses.replace(
        SHORT,
        total_steps=8192,
        num_envs=8,
        steps_per_env=64,
        batch_size=128,
        epochs=4,
        learning_rate=2e-3,
    )
    _, tracker = _train(tmp_path, config, network=network)
    costs = [m["rollout/cost_mean"] for _, m in tracker.rows if "rollout/cost_mean" in m]
    assert min(costs[-3:]) < 0.6 * costs[0]
