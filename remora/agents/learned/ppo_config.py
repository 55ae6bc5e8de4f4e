"""Values of one training with MaskablePPO."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from remora.agents.learned.network import NetworkSize
from remora.agents.learned.policy_files import MAX_UNITS
from remora.errors import InvalidInputError

__all__ = ["PpoConfig"]

_COUNTS = (
    "total_steps",
    "num_envs",
    "steps_per_env",
    "epochs",
    "checkpoint_every",
    "max_units",
)
_POSITIVE = ("max_seconds", "learning_rate", "clip_range", "max_grad_norm")
_SHARES = ("gae_lambda", "last_rate")
_WEIGHTS = ("entropy_weight", "reference_weight", "value_weight")
_FREE = ("total_steps", "max_seconds", "checkpoint_every", "max_units")


@dataclass(frozen=True)
class PpoConfig:
    """Values of one training run.

    Attributes:
        seed: of weights, sampled problems and drawn actions.
        total_steps: decisions to learn from.
        max_seconds: no further rollout begins after so long; None for no limit.
        num_envs: episodes played side by side.
        steps_per_env: decisions of each between two updates; all of them are one rollout.
        batch_size: decisions of one gradient step; divides a rollout.
        epochs: passes over the decisions of one update.
        learning_rate: at the start.
        last_rate: share of it that is left at the end; it falls linearly.
        entropy_weight: how much spread-out decisions are worth.
        reference_weight: how much it costs to differ from the network that training starts from.
        value_weight: of the critic's error.
        gae_lambda: decay of the advantage estimate.
        clip_range: how far one update may move a decision's probability.
        max_grad_norm: gradients are shortened to this length.
        checkpoint_every: rollouts between two files to resume from, and two judgements.
        max_units: most units of a model that the policy is meant for.
        shaping: whether rewards follow the bound on the step time; else all comes at the end.
        network: sizes of the network; those of a given network come first.
    """

    seed: int = 0
    total_steps: int = 524_288
    max_seconds: float | None = None
    num_envs: int = 32
    steps_per_env: int = 64
    batch_size: int = 512
    epochs: int = 4
    learning_rate: float = 3e-4
    last_rate: float = 0.1
    entropy_weight: float = 0.003
    reference_weight: float = 0.0
    value_weight: float = 10.0
    gae_lambda: float = 0.98
    clip_range: float = 0.2
    max_grad_norm: float = 0.5
    checkpoint_every: int = 8
    max_units: int = MAX_UNITS
    shaping: bool = True
    network: NetworkSize = field(default_factory=NetworkSize)

    def __post_init__(self) -> None:
        """Check what would only fail deep inside the training."""
        for name in _COUNTS:
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in _POSITIVE:
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "more than 0")
        for name in _SHARES:
            self._check(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        for name in _WEIGHTS:
            self._check(name, getattr(self, name) >= 0, "0 or more")
        fits = 1 < self.batch_size <= self.rollout and self.rollout % self.batch_size == 0
        what = f"a divisor of num_envs * steps_per_env = {self.rollout}, at least 2"
        self._check("batch_size", fits, what)

    @property
    def rollout(self) -> int:
        """Decisions between two updates."""
        return self.num_envs * self.steps_per_env

    def rate_after(self, steps: int) -> float:
        """Learning rate after so many decisions."""
        done = min(steps / self.total_steps, 1.0)
        return self.learning_rate * (1 - (1 - self.last_rate) * done)

    def as_dict(self) -> dict[str, Any]:
        """The values as plain JSON values."""
        return asdict(self)

    def decisive(self) -> dict[str, Any]:
        """Values that must be the same for a run to go on as it began."""
        return {name: value for name, value in self.as_dict().items() if name not in _FREE}

    def _check(self, name: str, good: bool, allowed: str) -> None:
        if not good:
            raise InvalidInputError(f"ppo.{name} is {getattr(self, name)}; allowed: {allowed}")
