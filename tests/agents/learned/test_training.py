"""Training: real learning steps, the same for the same seed, resumable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import pytest
import torch
from sb3_contrib import MaskablePPO

from remora.agents.learned import network
from remora.agents.learned.decoding import Decoder
from remora.agents.learned.maskable_policy import PlanPolicy, network_of_policy
from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.selection import validation_episodes
from remora.agents.learned.training import CHECKPOINT_NAME, TrainingConfig, train_policy
from remora.errors import FileFormatError, InvalidInputError
from remora.tracking.none_tracker import NoneTracker
from tests.agents.learned.policies import SHORT
from tests.envs.toy import SIZE, toy_sampler

JUDGED = "validation/overhead_mean"


class _Recorder(NoneTracker):
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.rows.append((step, dict(metrics)))


def _train(
    folder: Path, config: TrainingConfig = SHORT, resume: bool = False
) -> tuple[PlanNetwork, _Recorder]:
    tracker = _Recorder()
    trained = train_policy(toy_sampler(0.0, 0.6), SIZE, config, folder, tracker, resume)
    return trained, tracker


def _last(folder: Path) -> PlanNetwork:
    """The network that training ended with, whether it was the best one or not."""
    policy = MaskablePPO.load(folder / CHECKPOINT_NAME, device="cpu").policy
    assert isinstance(policy, PlanPolicy)
    return network_of_policy(policy)


def _equal(first: PlanNetwork, second: PlanNetwork) -> bool:
    return all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(
            first.state_dict().values(), second.state_dict().values(), strict=True
        )
    )


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, tracker = _train(tmp_path / "a")
    second, _ = _train(tmp_path / "b")
    _train(tmp_path / "c", dataclasses.replace(SHORT, seed=1))
    assert _equal(first, second)
    assert _equal(_last(tmp_path / "a"), _last(tmp_path / "b"))
    assert not _equal(_last(tmp_path / "a"), _last(tmp_path / "c"))
    names = {name for _, metrics in tracker.rows for name in metrics}
    assert {"rollout/ep_rew_mean", "rollout/overhead_mean", "train/value_loss"} <= names
    assert [step for step, _ in tracker.rows] == sorted(step for step, _ in tracker.rows)


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    half = dataclasses.replace(SHORT, total_steps=32)
    _train(tmp_path, half)
    before = _last(tmp_path)
    assert (tmp_path / CHECKPOINT_NAME).is_file()
    assert not list(tmp_path.glob(".*"))
    best, tracker = _train(tmp_path, SHORT, resume=True)
    after = _last(tmp_path)
    assert not _equal(before, after)
    assert min(step for step, _ in tracker.rows) >= 32
    finished, tracker = _train(tmp_path, SHORT, resume=True)
    assert _equal(best, finished)
    assert _equal(after, _last(tmp_path))
    assert not tracker.rows


def test_the_best_of_all_judged_networks_is_returned(tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, learning_rate=0.5, reward_scale=1000.0)
    trained, tracker = _train(tmp_path, config)
    judged = [m[JUDGED] for _, m in tracker.rows if JUDGED in m]
    assert len(judged) >= 2
    episodes = validation_episodes(toy_sampler(0.0, 0.6), config.budgets_per_case)
    mine = fmean(Decoder(trained, episode).greedy().cost for episode in episodes)
    assert math.expm1(mine) == pytest.approx(min(judged))


def test_nothing_to_resume_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"resume\.zip to resume from"):
        _train(tmp_path, resume=True)


def test_values_that_cannot_work_are_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"training\.batch_size is 7; allowed: a divisor"):
        dataclasses.replace(SHORT, batch_size=7)
    with pytest.raises(InvalidInputError, match=r"training\.total_steps is 0"):
        dataclasses.replace(SHORT, total_steps=0)


@pytest.mark.slow
def test_training_alone_finds_what_the_first_preferences_give_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = (0.0,) * len(network.FIRST_PREFERENCES)
    monkeypatch.setattr(network, "FIRST_PREFERENCES", none)
    config = dataclasses.replace(
        SHORT, total_steps=8192, num_envs=8, steps_per_env=64, batch_size=128, learning_rate=2e-3
    )
    _, tracker = _train(tmp_path, config)
    overheads = [
        m["rollout/overhead_mean"] for _, m in tracker.rows if "rollout/overhead_mean" in m
    ]
    assert min(overheads[-3:]) < 0.6 * overheads[0]
