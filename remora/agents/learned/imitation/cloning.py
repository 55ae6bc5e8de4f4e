"""Behaviour cloning: the network learns to do what demonstrations did, and what that is worth."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from remora.agents.learned.imitation.checkpoint import read_checkpoint, write_checkpoint
from remora.agents.learned.imitation.lesson import Teaching
from remora.agents.learned.imitation.loss import cloning_loss
from remora.agents.learned.imitation.recorder import Emphasis, record
from remora.agents.learned.imitation.recordings import Recordings
from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.agents.learned.policy_files import MAX_UNITS, Policy
from remora.agents.learned.selection import BestPolicy, Validation
from remora.errors import InvalidInputError
from remora.tracking.tracker import Tracker

__all__ = ["CHECKPOINT_NAME", "CloningConfig", "clone_policy"]

CHECKPOINT_NAME = "cloning.pt"
BEST_FOLDER = "best"

_COUNTS = ("epochs", "episodes_per_batch", "validate_every", "max_units")
_POSITIVE = ("learning_rate", "max_grad_norm", "max_seconds")
_FREE = ("max_seconds", "max_units")


@dataclass(frozen=True)
class CloningConfig:
    """Values of one training.

    Attributes:
        seed: of weights and of the order of episodes.
        epochs: passes over all episodes.
        max_seconds: no further epoch begins after so long; None for no limit.
        episodes_per_batch: whole episodes of one gradient step.
        learning_rate: at the start.
        last_rate: share of it that is left at the end; it falls as a cosine does.
        weight_decay: of the weights, by AdamW.
        value_weight: of the critic's error against that of decisions.
        max_grad_norm: gradients are shortened to this length.
        validate_every: epochs between two judgements.
        max_units: most units of a model that the policy is meant for.
        emphasis: which demonstrations count how much.
        network: sizes of the network; those of a given network come first.
    """

    seed: int = 0
    epochs: int = 40
    max_seconds: float | None = None
    episodes_per_batch: int = 8
    learning_rate: float = 2e-3
    last_rate: float = 0.05
    weight_decay: float = 1e-4
    value_weight: float = 10.0
    max_grad_norm: float = 1.0
    validate_every: int = 2
    max_units: int = MAX_UNITS
    emphasis: Emphasis = field(default_factory=Emphasis)
    network: NetworkSize = field(default_factory=NetworkSize)

    def __post_init__(self) -> None:
        """Check what would only fail deep inside the training."""
        for name in _COUNTS:
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in _POSITIVE:
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "more than 0")
        for name in ("weight_decay", "value_weight"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        self._check("last_rate", 0 <= self.last_rate <= 1, "0 to 1")

    def rate_after(self, epochs: int) -> float:
        """Learning rate after so many epochs."""
        left = (1 + math.cos(math.pi * epochs / self.epochs)) / 2
        return self.learning_rate * (self.last_rate + (1 - self.last_rate) * left)

    def decisive(self) -> dict[str, Any]:
        """Values that must be the same for a training to go on as it began."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}

    def _check(self, name: str, good: bool, allowed: str) -> None:
        if not good:
            raise InvalidInputError(f"cloning.{name} is {getattr(self, name)}; allowed: {allowed}")


def clone_policy(
    teaching: Teaching,
    validation: Validation,
    config: CloningConfig,
    folder: Path,
    tracker: Tracker,
    start: PlanNetwork | None = None,
    held_out: Teaching | None = None,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Policy:
    """Train a network; the same data, values and number of threads give the same weights.

    Judged by its greedy plans before the first epoch, every few and after the last one; the best
    network is returned. Killed at any moment and resumed, it goes on as if nothing had happened.

    Args:
        teaching: what to learn from.
        validation: what networks are judged by.
        config: values of the training.
        folder: where ``cloning.pt`` goes, to resume from, and ``best/``, the best policy so far.
        tracker: a started tracker.
        start: network to go on from, which stays as it is; None for a new one.
        held_out: demonstrations on which only the loss is told.
        resume: go on from what the folder holds.
        clock: seconds from any start, for the time limit.

    Raises:
        InvalidInputError: there is no demonstration, or one is broken.
        FileFormatError: there is nothing to resume from, or it belongs to another training.
    """
    begun_s = clock()
    trainer = _Trainer(teaching, config, start)
    checks = record(held_out, config.emphasis) if held_out is not None else None
    checkpoint = folder / CHECKPOINT_NAME
    best = BestPolicy(folder / BEST_FOLDER, validation, config.max_units, resume)
    if resume:
        trainer.resume(checkpoint)
    else:
        tracker.log_metrics({"validation/regret": best.consider(trainer.network, 0)}, 0)
    while trainer.epochs < config.epochs:
        if config.max_seconds is not None and clock() - begun_s >= config.max_seconds:
            break
        metrics = trainer.run_epoch()
        if trainer.epochs % config.validate_every == 0 or trainer.epochs == config.epochs:
            metrics["validation/regret"] = best.consider(trainer.network, trainer.steps)
            if checks is not None:
                metrics["validation/loss"] = mean_loss(
                    trainer.network, checks, config.episodes_per_batch
                )
        trainer.save(checkpoint)
        tracker.log_metrics(metrics, trainer.epochs)
    return best.best()


def mean_loss(network: PlanNetwork, recordings: Recordings, episodes_per_batch: int) -> float:
    """Divergence of a policy from all targets, in nats per unit of weight."""
    total = weight = 0.0
    with torch.no_grad():
        for first in range(0, len(recordings), episodes_per_batch):
            last = min(first + episodes_per_batch, len(recordings))
            loss = cloning_loss(network, recordings.take(range(first, last)))
            total += loss.weight * float(loss.decisions)
            weight += loss.weight
    return total / weight


class _Trainer:
    """Network, optimizer, and how many epochs they have seen."""

    def __init__(
        self, teaching: Teaching, config: CloningConfig, start: PlanNetwork | None
    ) -> None:
        self._config = config
        self._recordings = record(teaching, config.emphasis)
        self._identity = _identity(teaching, config, start)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.network = PlanNetwork(config.network if start is None else start.size)
        if start is not None:
            self.network.load_state_dict(start.state_dict())
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.epochs = 0

    @property
    def steps(self) -> int:
        """Decisions that were learned from so far."""
        return self.epochs * len(self._recordings.weights)

    def run_epoch(self) -> dict[str, float]:
        """Learn from every episode once, in an order that the number of the epoch gives."""
        config = self._config
        for group in self._optimizer.param_groups:
            group["lr"] = config.rate_after(self.epochs)
        order = np.random.default_rng([config.seed, self.epochs]).permutation(len(self._recordings))
        decisions = values = weight = steps = 0.0
        for first in range(0, len(order), config.episodes_per_batch):
            chosen = order[first : first + config.episodes_per_batch].tolist()
            loss = cloning_loss(self.network, self._recordings.take(chosen))
            self._optimizer.zero_grad()
            (loss.decisions + config.value_weight * loss.value).backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
            self._optimizer.step()
            decisions += loss.weight * float(loss.decisions.detach())
            values += loss.steps * float(loss.value.detach())
            weight, steps = weight + loss.weight, steps + loss.steps
        self.epochs += 1
        return {"cloning/loss": decisions / weight, "cloning/value_error": values / steps}

    def save(self, path: Path) -> None:
        """Write a file to resume from."""
        write_checkpoint(
            path,
            self._identity,
            self.epochs,
            self.network.state_dict(),
            self._optimizer.state_dict(),
        )

    def resume(self, path: Path) -> None:
        """Go on from such a file."""
        self.epochs, network, optimizer = read_checkpoint(path, self._identity)
        self.network.load_state_dict(network)
        self._optimizer.load_state_dict(optimizer)


def _identity(teaching: Teaching, config: CloningConfig, start: PlanNetwork | None) -> str:
    """Hash of everything that the weights depend on."""
    episodes = (*teaching.shown, *(one.episode for one in teaching.explored))
    shown = [[one.lesson, one.actions, one.step_time_s] for one in episodes]
    budgets = {lesson.name: lesson.budget_bytes for lesson in teaching.lessons}
    digest = hashlib.sha256(json.dumps([shown, budgets, config.decisive()]).encode())
    for one in teaching.explored:
        digest.update(one.costs.tobytes())
    for tensor in start.state_dict().values() if start is not None else ():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
