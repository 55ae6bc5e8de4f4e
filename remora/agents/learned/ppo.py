"""Training of the policy with MaskablePPO, the same for the same seed, also after a stop.

Proximal policy optimisation: Schulman et al., https://arxiv.org/abs/1707.06347; invalid actions
masked as in Huang and Ontanon, https://arxiv.org/abs/2006.14171. Staying close to the network that
training starts from: Ziegler et al., https://arxiv.org/abs/1909.08593.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger

from remora.agents.learned.checkpoints import load_checkpoint, save_checkpoint
from remora.agents.learned.maskable_policy import JointPolicy, Worth
from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.playing import exact_size
from remora.agents.learned.policy_files import Policy, load_policy, save_policy
from remora.agents.learned.ppo_config import PpoConfig
from remora.agents.learned.selection import BestPolicy, Validation
from remora.agents.learned.vec_env import JointVecEnv
from remora.envs.sampler import JointSampler
from remora.errors import FileFormatError, InvalidInputError
from remora.tracking.tracker import Tracker

__all__ = ["BEST_FOLDER", "CHECKPOINT_NAME", "START_FOLDER", "train_ppo"]

CHECKPOINT_NAME = "resume.pt"
BEST_FOLDER = "best"
START_FOLDER = "start"

_NEVER = 2**31
"""Rollouts until the training library prints by itself."""


def train_ppo(
    sampler: JointSampler,
    validation: Validation,
    config: PpoConfig,
    folder: Path,
    tracker: Tracker,
    network: PlanNetwork | None = None,
    resume: bool = False,
) -> Policy:
    """Train a policy; the same arguments and number of threads give the same weights.

    A run that was stopped at any time and goes on from its last file ends with the weights of a
    run that was not. At the start, at every checkpoint and at the end the network is judged on
    the validation problems; the best one is returned.

    Args:
        sampler: draws problems.
        validation: what networks are judged by, never what they are trained on.
        config: values of the run.
        folder: where files go: ``resume.pt``, to go on from; ``start/``, the network that the run
            began with; ``best/``, the best one so far.
        tracker: a started tracker.
        network: what to start from, for example a policy that imitates searches; None for fresh
            weights. Not looked at if ``resume``.
        resume: go on from the folder's ``resume.pt``.

    Raises:
        FileFormatError: there is nothing to resume from, or it belongs to another run.
        InvalidInputError: there is a reference weight and no network to stay close to.
    """
    run = _Run(sampler, validation, config, folder, tracker)
    if resume:
        run.go_on()
    else:
        run.begin(network)
    return run.train()


class _Run:
    """One training: a rollout and an update at a time, with everything at rest in between."""

    def __init__(
        self,
        sampler: JointSampler,
        validation: Validation,
        config: PpoConfig,
        folder: Path,
        tracker: Tracker,
    ) -> None:
        size = exact_size(sampler.problems)
        self._env = JointVecEnv(sampler, config.num_envs, size, config.seed, config.shaping)
        self._validation = validation
        self._config = config
        self._folder = folder
        self._tracker = tracker
        self._checkpoint = folder / CHECKPOINT_NAME

    def begin(self, network: PlanNetwork | None) -> None:
        """Start from given or from fresh weights."""
        if network is None and self._config.reference_weight:
            raise InvalidInputError(
                f"ppo.reference_weight is {self._config.reference_weight} and there is no network "
                "to stay close to; allowed: 0"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._checkpoint.unlink(missing_ok=True)
        self._make(network)
        self._model._last_obs = self._env.reset()
        self._model._last_episode_starts = np.ones(self._config.num_envs, dtype=np.bool_)
        start = Policy(self._policy.network(), self._config.max_units)
        save_policy(self._folder / START_FOLDER, start)
        self._best = self._judge(resume=False)
        self._save()

    def go_on(self) -> None:
        """Start from the folder's file."""
        if not self._checkpoint.is_file():
            raise FileFormatError(f"there is no file {self._checkpoint} to resume from")
        self._make(load_policy(self._folder / START_FOLDER).network)
        self._best = self._judge(resume=True)
        load_checkpoint(self._checkpoint, self._model, self._config.decisive())

    def train(self) -> Policy:
        """Train to the end, or as long as the time lasts."""
        config, began_s = self._config, time.monotonic()
        rollouts = self._model.num_timesteps // config.rollout
        saved = True
        while self._model.num_timesteps < config.total_steps:
            if config.max_seconds is not None and time.monotonic() - began_s > config.max_seconds:
                break
            self._roll_out_and_update()
            rollouts += 1
            saved = rollouts % config.checkpoint_every == 0
            if saved:
                self._save()
        if not saved:
            self._save()
        self._env.close()
        return self._best.best()

    @property
    def _policy(self) -> JointPolicy:
        policy = self._model.policy
        assert isinstance(policy, JointPolicy)
        return policy

    def _judge(self, resume: bool) -> BestPolicy:
        folder = self._folder / BEST_FOLDER
        return BestPolicy(folder, self._validation, self._config.max_units, resume)

    def _make(self, network: PlanNetwork | None) -> None:
        config = self._config
        size = network.size if network is not None else config.network
        self._model = MaskablePPO(
            JointPolicy,
            self._env,
            learning_rate=config.learning_rate,
            n_steps=config.steps_per_env,
            batch_size=config.batch_size,
            n_epochs=config.epochs,
            gamma=1.0,
            gae_lambda=config.gae_lambda,
            clip_range=config.clip_range,
            ent_coef=1.0,
            vf_coef=config.value_weight,
            max_grad_norm=config.max_grad_norm,
            policy_kwargs={"size": size.as_dict()},
            seed=config.seed,
            device="cpu",
        )
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        if network is not None:
            self._policy.set_network(network)
        self._policy.worth = Worth(config.entropy_weight, config.reference_weight, network)

    def _roll_out_and_update(self) -> None:
        model = self._model
        rate = self._config.rate_after(model.num_timesteps)
        model.lr_schedule = lambda _: rate
        model.learn(self._config.rollout, log_interval=_NEVER, reset_num_timesteps=False)
        costs = self._env.take_costs()
        metrics = _numbers(model.logger.name_to_value)
        if costs:
            metrics["rollout/cost_mean"] = float(np.mean(costs))
        model.logger.dump()
        self._tracker.log_metrics(metrics, model.num_timesteps)

    def _save(self) -> None:
        """Judge the network, then write the file to go on from."""
        steps = self._model.num_timesteps
        regret = self._best.consider(self._policy.network(), steps)
        self._tracker.log_metrics({"validation/regret": regret}, steps)
        save_checkpoint(self._checkpoint, self._model, self._config.decisive())


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """What the training library recorded; its place for the entropy holds the worth."""
    return {
        name.replace("entropy", "worth"): float(value)
        for name, value in values.items()
        if isinstance(value, int | float | np.number)
    }
