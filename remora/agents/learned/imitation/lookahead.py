"""What the other actions of an episode would have brought, had the policy gone on from there.

A policy that takes the best of these is better than the one that went on (policy improvement by
rollouts: Bertsekas, Tsitsiklis, Wu, "Rollout algorithms for combinatorial optimization", Journal of
Heuristics 3, 1997); a network learns to do so at once, without looking. Legend: T steps, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.agents.heuristics.shapes import shape_of
from remora.agents.learned.imitation.lesson import Demonstration, Explored, Lesson, Teaching
from remora.agents.learned.network import Encoding, PlanNetwork
from remora.agents.learned.playing import Moment, Player, exact_size
from remora.envs.actions import NUM_ACTIONS
from remora.envs.batch import EpisodeBatch
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["LookaheadConfig", "look_ahead"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LookaheadConfig:
    """Values of one round.

    Attributes:
        shown: episodes per lesson that begin with the settings of the best plans known, each with
            another shape; the policy goes on from there.
        own: episodes that the policy plays from the start; the first takes the likeliest actions,
            the others are drawn.
        unlikely: log of how much less likely than the best an action may be to be tried.
        together: episodes that are finished side by side.
    """

    shown: int = 1
    own: int = 1
    unlikely: float = 6.0
    together: int = 256

    def __post_init__(self) -> None:
        for name, least in (("shown", 0), ("own", 0), ("together", 1)):
            if getattr(self, name) < least:
                raise InvalidInputError(
                    f"lookahead.{name} is {getattr(self, name)}; allowed: {least} or more"
                )
        if not self.unlikely > 0 or self.shown + self.own < 1:
            raise InvalidInputError(
                f"lookahead is {self}; allowed: unlikely above 0, shown or own at least 1"
            )


def look_ahead(
    network: PlanNetwork, teaching: Teaching, config: LookaheadConfig, seed: int = 0
) -> list[Explored]:
    """Play every lesson and try, in every step, what else could be done.

    Args:
        network: the policy.
        teaching: lessons, and the demonstrations whose settings are taken.
        config: how much is tried.
        seed: of drawn episodes; the same one finds the same.
    """
    found: list[Explored] = []
    for number, lesson in enumerate(teaching.lessons):
        generator = np.random.default_rng([seed, number])
        explorer = _Explorer(network, lesson, config)
        for prefix in _settings(teaching.of(lesson), lesson, config.shown):
            found.append(explorer.explored(prefix, None))
        for own in range(config.own):
            found.append(explorer.explored((), generator if own else None))
    return found


def _settings(
    shown: Sequence[Demonstration], lesson: Lesson, count: int
) -> Iterator[tuple[int, ...]]:
    """What the best demonstrations of different shapes do before the first unit."""
    ranked = sorted(shown, key=lambda one: one.step_time_s)
    firsts = {one.shape: one for one in reversed(ranked)}
    leading = [one for one in ranked if firsts[one.shape] is one]
    for one in leading[:count]:
        yield one.actions[: len(one.actions) - lesson.tables.num_units]


class _Explorer:
    """Plays one lesson."""

    def __init__(self, network: PlanNetwork, lesson: Lesson, config: LookaheadConfig) -> None:
        self._network = network
        self._lesson = lesson
        self._config = config
        self._sampler = JointSampler([lesson.tables])
        self._size = exact_size([lesson.tables])
        self._encoding: Encoding | None = None

    def explored(self, prefix: Sequence[int], generator: np.random.Generator | None) -> Explored:
        """Play an episode, and finish it from every step with every other likely action.

        Args:
            prefix: what is done first, whatever the policy says.
            generator: draws actions; None for the likeliest ones.
        """
        player = self._player(1)
        moments: list[Moment] = []
        tried: list[tuple[int, int]] = []
        actions: list[int] = []
        while player.running.any():
            told = player.log_probabilities().numpy()[0]
            action = _chosen(told, generator)
            if len(actions) < len(prefix) and np.isfinite(told[prefix[len(actions)]]):
                action = prefix[len(actions)]
            likely = np.flatnonzero(told >= told.max() - self._config.unlikely).tolist()
            if len(likely) > 1:
                tried += [(len(actions), other) for other in {*likely, action}]
            moments.append(player.moment())
            actions.append(action)
            player.act(np.array([action]))
        costs = np.full((len(actions), NUM_ACTIONS), np.inf)
        step_time_s = player.batch.step_time_s(0)
        for first in range(0, len(tried), self._config.together):
            some = tried[first : first + self._config.together]
            for (step, action), seconds in zip(some, self._finished(moments, some), strict=True):
                costs[step, action] = np.log(seconds / self._lesson.tables.keep_all_s)
        shape = shape_of(player.batch.schedule(0).pipeline)
        own = Demonstration(self._lesson.name, shape, tuple(actions), step_time_s, "policy")
        return Explored(own, costs)

    def _player(self, count: int) -> Player:
        batch = EpisodeBatch(self._sampler, count, self._size)
        for place in range(count):
            batch.begin(place, 0, self._lesson.budget_bytes)
        player = Player(self._network, batch, self._encoding)
        self._encoding = player.encoding
        return player

    def _finished(self, moments: Sequence[Moment], tried: Sequence[tuple[int, int]]) -> list[float]:
        """Step times of going on from some moments with some actions."""
        player = self._player(len(tried))
        for place, (step, _) in enumerate(tried):
            player.adopt(place, moments[step])
        player.act(np.array([action for _, action in tried], dtype=np.int64))
        while player.running.any():
            player.act(player.log_probabilities().argmax(dim=1).numpy())
        return [player.batch.step_time_s(place) for place in range(len(tried))]


def _chosen(told: NDArray[np.float32], generator: np.random.Generator | None) -> int:
    if generator is None:
        return int(told.argmax())
    return int((told + generator.gumbel(size=told.shape)).argmax())
