"""A little practice: a policy improves on problems of one kind, in a given time.

Rounds of self-imitation, each with the policy that the round before left, then MaskablePPO that
stays near the best of them. Fresh weights practise in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from remora.agents.learned.imitation.cloning import CloningConfig, clone_policy
from remora.agents.learned.imitation.lesson import Lesson, Teaching
from remora.agents.learned.imitation.rounds import RoundConfig, improve_demonstrations
from remora.agents.learned.imitation.teachers import Translation
from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.agents.learned.policy_files import Policy
from remora.agents.learned.ppo import train_ppo
from remora.agents.learned.ppo_config import PpoConfig
from remora.agents.learned.selection import Validation, ValidationProblem
from remora.api.records import record
from remora.envs.plan_tables import PlanTables
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError
from remora.tracking.registry import create

__all__ = ["PracticeConfig", "PracticeResult", "fresh_network", "practice_config", "practise"]

_MOST_THREADS = 2
_UNITS = 64
"""Of a model for which rollouts are as long as in a training."""

_ENDLESS = 2**30
"""Decisions of reinforcement learning; the time ends it long before."""


@dataclass(frozen=True)
class PracticeConfig:
    """How a policy practises.

    Attributes:
        problems: what it practises on.
        validation: further problems, by which the best weights are chosen.
        epochs: of cloning in every round of self-imitation.
        learning_rate, scratch_learning_rate: of that cloning, of the policy and of fresh weights.
        ppo_share: of the time, for reinforcement learning after the rounds.
        ppo_learning_rate: of it.
        round: values of the search for better plans.
    """

    problems: int = 16
    validation: int = 6
    epochs: int = 8
    learning_rate: float = 3e-4
    scratch_learning_rate: float = 2e-3
    ppo_share: float = 0.3
    ppo_learning_rate: float = 1e-4
    round: RoundConfig = field(default_factory=RoundConfig)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("problems", "validation", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"practice.{name} is {value!r}; allowed: 1 or more")
        for name in ("learning_rate", "scratch_learning_rate", "ppo_learning_rate"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(
                    f"practice.{name} is {getattr(self, name)}; allowed: more than 0"
                )
        if not 0 <= self.ppo_share < 1:
            raise InvalidInputError(
                f"practice.ppo_share is {self.ppo_share}; allowed: 0 to below 1"
            )


@dataclass(frozen=True)
class PracticeResult:
    """What came of it.

    Attributes:
        policy: the best one by the validation problems, the start among them.
        seconds: that it took, without the drawing of problems.
        rounds: of self-imitation.
        before, after: mean log of the step time over that of keeping everything, on the
            validation problems.
    """

    policy: Policy
    seconds: float
    rounds: int
    before: float
    after: float


def practice_config(values: Mapping[str, Any]) -> PracticeConfig:
    """Read the values of a configuration; what is left out keeps its default.

    Raises:
        UnknownNameError: an unknown key.
        InvalidInputError: a value is not allowed.
    """
    given = dict(values)
    inner = dict(given.pop("round", None) or {})
    translation = record(
        Translation, "practice.round.translation", inner.pop("translation", None) or {}
    )
    chosen = record(RoundConfig, "practice.round", {**inner, "translation": translation})
    return record(PracticeConfig, "practice", {**given, "round": chosen})


def fresh_network(size: NetworkSize, seed: int) -> PlanNetwork:
    """Weights that have learned nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PlanNetwork(size).eval()


def practise(
    start: Policy,
    tables: Sequence[PlanTables],
    config: PracticeConfig,
    learning_rate: float,
    limit_s: float,
    seed: int,
    folder: Path,
    clock: Callable[[], float] = time.monotonic,
) -> PracticeResult:
    """Improve a policy for so many seconds, on two threads at most.

    What has begun when the time is over is finished: a handful of plans, an epoch or a rollout.

    Args:
        start: stays as it is.
        tables: at least ``config.problems + config.validation`` problems; the last ones validate.
        config: how.
        learning_rate: of the rounds.
        limit_s: seconds.
        seed: of all draws.
        folder: where checkpoints go.
        clock: seconds from any start.

    Raises:
        InvalidInputError: a problem is larger than what the policy is meant for.
    """
    for one in tables:
        start.check_units(one.num_units)
    taught = tables[: config.problems]
    lessons, validation = _lessons(taught), _validation(tables[config.problems :])
    before = validation.regret(start.network)
    with _few_threads():
        begun_s = clock()
        rounds = _Rounds(config, learning_rate, validation, seed, folder, clock)
        policy = rounds.run(start, lessons, begun_s + (1 - config.ppo_share) * limit_s)
        left_s = begun_s + limit_s - clock()
        if config.ppo_share > 0 and left_s > 0:
            policy = _reinforced(policy, taught, validation, config, left_s, seed, folder)
        seconds = clock() - begun_s
    after = validation.regret(policy.network)
    return PracticeResult(
        replace(policy, max_units=start.max_units), seconds, rounds.count, before, after
    )


@dataclass
class _Rounds:
    """Rounds of self-imitation until a time is over."""

    config: PracticeConfig
    learning_rate: float
    validation: Validation
    seed: int
    folder: Path
    clock: Callable[[], float]
    count: int = 0
    next: int = 0

    def run(self, start: Policy, lessons: Sequence[Lesson], end_s: float) -> Policy:
        """One round at least."""
        teaching, policy = Teaching(tuple(lessons)), start
        while self.count == 0 or self.clock() < end_s:
            teaching = self._improved(policy.network, teaching, end_s)
            policy = self._cloned(policy.network, teaching, end_s)
            self.count += 1
        return policy

    def _improved(self, network: PlanNetwork, teaching: Teaching, end_s: float) -> Teaching:
        """Better plans of one lesson after the other, in half of the time that is left.

        Lessons that one round does not come to are the first ones of the next.
        """
        until_s = (self.clock() + end_s) / 2

        def is_over() -> bool:
            return self.clock() > until_s

        for _ in teaching.lessons:
            lesson = teaching.lessons[self.next % len(teaching.lessons)]
            alone = Teaching((lesson,), teaching.of(lesson))
            seed = 1000 * self.seed + self.next
            found = improve_demonstrations(network, alone, self.config.round, seed, is_over)
            teaching = teaching.with_more(found.shown)
            self.next += 1
            if is_over():
                break
        return teaching

    def _cloned(self, network: PlanNetwork, teaching: Teaching, end_s: float) -> Policy:
        config = CloningConfig(
            seed=self.seed + self.count,
            epochs=self.config.epochs,
            # One epoch is always learned.
            max_seconds=max(end_s - self.clock(), 1e-3),
            learning_rate=self.learning_rate,
        )
        folder = self.folder / f"round_{self.count}"
        return clone_policy(teaching, self.validation, config, folder, create("none"), network)


def _reinforced(
    policy: Policy,
    tables: Sequence[PlanTables],
    validation: Validation,
    config: PracticeConfig,
    limit_s: float,
    seed: int,
    folder: Path,
) -> Policy:
    # What a rollout takes grows with the graphs, and the time is looked at after each.
    share = min(1.0, _UNITS / max(one.num_units for one in tables))
    episodes = max(2, round(16 * share))
    values = PpoConfig(
        seed=seed,
        total_steps=_ENDLESS,
        max_seconds=limit_s,
        num_envs=episodes,
        steps_per_env=32,
        batch_size=8 * episodes,
        learning_rate=config.ppo_learning_rate,
        last_rate=1.0,
        reference_weight=0.05,
    )
    sampler = JointSampler(tables)
    return train_ppo(sampler, validation, values, folder / "ppo", create("none"), policy.network)


def _lessons(tables: Sequence[PlanTables]) -> tuple[Lesson, ...]:
    return tuple(Lesson(one, _fitting_budget(one)) for one in tables)


def _validation(tables: Sequence[PlanTables]) -> Validation:
    """No search is needed: which weights are best does not depend on what is best known."""
    return Validation(
        [ValidationProblem(one, _fitting_budget(one), one.keep_all_s) for one in tables]
    )


def _fitting_budget(tables: PlanTables) -> int:
    """The drawn budget, or the least that an episode is sure to fit."""
    return max(tables.problem.budget_bytes, tables.least_bytes)


@contextmanager
def _few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(_MOST_THREADS, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
