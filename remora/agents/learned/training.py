"""Training of the policy with MaskablePPO, from any checkpoint on, the same for the same seed.

Proximal policy optimisation: Schulman et al., https://arxiv.org/abs/1707.06347; invalid actions
masked as in Huang and Ontanon, https://arxiv.org/abs/2006.14171.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from remora.agents.learned.maskable_policy import PlanPolicy, network_of_policy
from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.agents.learned.selection import BestPolicy, validation_episodes
from remora.envs.observation import ObservationSize
from remora.envs.sampler import ProblemSampler
from remora.envs.schedule_env import ScheduleEnv
from remora.errors import FileFormatError, InvalidInputError
from remora.tracking.tracker import Tracker

__all__ = ["CHECKPOINT_NAME", "TrainingConfig", "train_policy"]

CHECKPOINT_NAME = "resume.zip"
BEST_FOLDER = "best"

_COUNTS = (
    "total_steps",
    "num_envs",
    "steps_per_env",
    "epochs",
    "checkpoint_every",
    "budgets_per_case",
)


@dataclass(frozen=True)
class TrainingConfig:
    """Values of one training run.

    Attributes:
        seed: of weights, sampled problems and drawn actions.
        total_steps: decisions to learn from.
        num_envs: episodes played side by side.
        steps_per_env: decisions of each between two updates.
        batch_size: decisions of one gradient step; divides their number.
        epochs: passes over the decisions of one update.
        learning_rate: at the start; it falls linearly to a tenth.
        entropy_weight: how much spread-out decisions are worth.
        gae_lambda: decay of the advantage estimate.
        clip_range: how far one update may move a decision's probability.
        reward_scale: rewards are small logarithms; the critic learns them times this.
        checkpoint_every: decisions between two files to resume from, and two judgements.
        budgets_per_case: budgets of every case by which the network is judged.
        network: sizes of the network.
    """

    seed: int = 0
    total_steps: int = 24_576
    num_envs: int = 8
    steps_per_env: int = 128
    batch_size: int = 256
    epochs: int = 4
    learning_rate: float = 3e-4
    entropy_weight: float = 0.003
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    reward_scale: float = 10.0
    checkpoint_every: int = 4096
    budgets_per_case: int = 3
    network: NetworkSize = field(default_factory=NetworkSize)

    def __post_init__(self) -> None:
        """Check what would only fail deep inside the training."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise InvalidInputError(
                    f"training.{name} is {getattr(self, name)}; allowed: 1 or more"
                )
        rollout = self.num_envs * self.steps_per_env
        if not 1 < self.batch_size <= rollout or rollout % self.batch_size:
            raise InvalidInputError(
                f"training.batch_size is {self.batch_size}; allowed: a divisor of "
                f"num_envs * steps_per_env = {rollout}, at least 2"
            )

    def as_dict(self) -> dict[str, Any]:
        """The values as plain JSON values."""
        return asdict(self)


class ScaledReward(gymnasium.RewardWrapper[Any, Any]):
    """Multiplies rewards by a constant.

    Args:
        env: what to wrap.
        scale: the constant.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], scale: float) -> None:
        super().__init__(env)
        self.scale = scale

    def reward(self, reward: Any) -> float:
        """Scale one reward."""
        return self.scale * float(reward)


class _TrackerWriter(KVWriter):
    """Hands the numbers of the training library to a tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Log one row of numbers; ``key_excluded`` names formats, which a tracker has none of."""
        numbers = {
            name: float(value)
            for name, value in key_values.items()
            if isinstance(value, int | float | np.number) and not name.startswith("time/")
        }
        self._tracker.log_metrics(numbers, step)

    def close(self) -> None:
        """The tracker belongs to somebody else and stays open."""


class _Checkpoints(BaseCallback):
    """Saves files to resume from, judges the network, logs the overhead of finished plans."""

    def __init__(self, path: Path, every: int, best: BestPolicy) -> None:
        super().__init__()
        self._path = path
        self._every = every
        self._best = best
        self._saved_at = -every

    def _on_training_start(self) -> None:
        if self.num_timesteps:
            self._saved_at = self.num_timesteps

    def _on_rollout_start(self) -> None:
        # Here the last update is finished and no decision of the next one is made yet.
        if self.num_timesteps - self._saved_at >= self._every:
            self.save()
            self._saved_at = self.num_timesteps

    def _on_rollout_end(self) -> None:
        finished = list(self.model.ep_info_buffer or [])
        if finished:
            overheads = [episode["overhead"] for episode in finished]
            self.logger.record("rollout/overhead_mean", float(np.mean(overheads)))

    def _on_step(self) -> bool:
        return True

    def save(self) -> None:
        """Judge the network and write the file to resume from, whole or not at all."""
        assert isinstance(self.model.policy, PlanPolicy)
        cost = self._best.consider(network_of_policy(self.model.policy), self.num_timesteps)
        self.logger.record("validation/overhead_mean", float(np.expm1(cost)))
        # The library appends .zip to names without it.
        temporary = self._path.with_name(f".{self._path.stem}.tmp.zip")
        self.model.save(temporary)
        os.replace(temporary, self._path)


def train_policy(
    sampler: ProblemSampler,
    size: ObservationSize,
    config: TrainingConfig,
    folder: Path,
    tracker: Tracker,
    resume: bool = False,
) -> PlanNetwork:
    """Train a policy; the same sampler, values and number of threads give the same weights.

    At the beginning, at every checkpoint and at the end the greedy decode is judged on the
    sampler's own cases under fixed budgets; the best network is returned.

    Args:
        sampler: draws problems.
        size: how far observations are padded.
        config: values of the run.
        folder: where ``resume.zip`` goes, a pickle, to be resumed on this machine only, and
            ``best/``, the best network so far.
        tracker: a started tracker.
        resume: go on from the folder's ``resume.zip``.

    Raises:
        FileFormatError: there is nothing to resume from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT_NAME
    envs = _make_envs(sampler, size, config)
    model = _load(checkpoint, envs, config) if resume else _make(envs, config)
    model.set_logger(Logger(folder=None, output_formats=[_TrackerWriter(tracker)]))
    remaining = config.total_steps - model.num_timesteps
    episodes = validation_episodes(sampler, config.budgets_per_case)
    best = BestPolicy(folder / BEST_FOLDER, episodes, resume)
    saver = _Checkpoints(checkpoint, config.checkpoint_every, best)
    if remaining > 0:
        model.learn(remaining, callback=saver, log_interval=1, reset_num_timesteps=not resume)
        saver.save()
        model.logger.dump(model.num_timesteps)
    envs.close()
    return best.best()


def _make_envs(sampler: ProblemSampler, size: ObservationSize, config: TrainingConfig) -> VecEnv:
    return make_vec_env(
        lambda: ScheduleEnv(sampler, size),
        n_envs=config.num_envs,
        seed=config.seed,
        monitor_kwargs={"info_keywords": ("overhead",)},
        wrapper_class=lambda env: ScaledReward(env, config.reward_scale),
    )


def _make(envs: VecEnv, config: TrainingConfig) -> MaskablePPO:
    return MaskablePPO(
        PlanPolicy,
        envs,
        learning_rate=LinearSchedule(config.learning_rate, 0.1 * config.learning_rate, 1.0),
        n_steps=config.steps_per_env,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=1.0,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.entropy_weight,
        policy_kwargs={"size": config.network.as_dict()},
        seed=config.seed,
        device="cpu",
    )


def _load(checkpoint: Path, envs: VecEnv, config: TrainingConfig) -> MaskablePPO:
    if not checkpoint.is_file():
        raise FileFormatError(f"there is no file {checkpoint} to resume from")
    model = MaskablePPO.load(checkpoint, env=envs, device="cpu")
    # The file holds no generator state; a new seed per place keeps resuming reproducible.
    model.set_random_seed(config.seed + model.num_timesteps)
    return model
