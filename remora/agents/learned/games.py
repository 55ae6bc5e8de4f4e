"""Episodes that are played side by side: by the likeliest actions, by drawn ones, or as a beam.

Legend: E episodes, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from remora.agents.learned.playing import Player
from remora.envs.actions import Phase, Setting
from remora.schedule.schedule import Schedule

__all__ = ["Decoded", "Game", "drawn", "likeliest"]

Choice = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""From log-probabilities to actions.  # [E, A] -> [E]"""


@dataclass(frozen=True)
class Decoded:
    """A finished episode.

    Attributes:
        schedule: its plan, which fits.
        step_time_s: of the plan.
        actions: what was done, settings first.
        log_probability: of the actions under the policy.
    """

    schedule: Schedule
    step_time_s: float
    actions: tuple[int, ...]
    log_probability: float


class Game:
    """Episodes with what was done in them so far."""

    def __init__(self, player: Player) -> None:
        self._player = player
        count = len(player.running)
        self._actions: list[tuple[int, ...]] = [() for _ in range(count)]
        self._log_probability = np.zeros(count)
        self._live = np.ones(count, dtype=np.bool_)

    def play(self, choose: Choice, stop: Callable[[], bool]) -> None:
        """Act until all episodes are over, or until told to stop."""
        while self._player.running.any() and not stop():
            told = self._player.log_probabilities().numpy()
            self._act(choose(told), told)

    def search(self, stop: Callable[[], bool]) -> None:
        """Go on with the likeliest of all continuations, as many as there are places."""
        self._live[1:] = False
        while (self._player.running & self._live).any() and not stop():
            told = self._player.log_probabilities().numpy()
            actions = np.zeros(len(told), dtype=np.int64)
            moved = told.copy()
            for place, (parent, action) in self._continuations(told).items():
                actions[place] = action
                moved[place] = told[parent]
            self._act(actions, moved)

    def begin(self, actions: Sequence[tuple[int, ...]], stop: Callable[[], bool]) -> None:
        """Take given actions first, each episode its own; the likeliest where those are masked."""
        for step in range(max(map(len, actions), default=0)):
            if stop():
                return
            told = self._player.log_probabilities().numpy()
            chosen = likeliest(told)
            for place, own in enumerate(actions):
                if step < len(own) and np.isfinite(told[place, own[step]]):
                    chosen[place] = own[step]
            self._act(chosen, told)

    def settings(self, stop: Callable[[], bool]) -> list[tuple[int, ...]]:
        """Keep a beam until all units are still to come; returns what differs in more than pace."""
        batch, found = self._player.batch, dict[tuple[int, Setting], tuple[int, ...]]()
        self.search(lambda: stop() or self._all_in_units())
        for place in np.argsort(-self._log_probability, kind="stable").tolist():
            if self._live[place] and batch.phase(place) >= Phase.UNITS:
                setting = replace(batch.setting(place), window=1, distance=1)
                units = len(batch.decisions(place))
                own = self._actions[place]
                found.setdefault((batch.pipeline(place), setting), own[: len(own) - units])
        return list(found.values())

    def _all_in_units(self) -> bool:
        places = np.flatnonzero(self._live & self._player.running).tolist()
        return all(self._player.batch.phase(place) >= Phase.UNITS for place in places)

    def complete(self) -> None:
        """Finish all episodes without the network, by what needs least memory."""
        batch = self._player.batch
        while self._player.running.any():
            fallback = [batch.fallback(place) for place in range(len(self._actions))]
            self._act(np.array(fallback, dtype=np.int64), None)

    def over(self) -> list[int]:
        """Places of episodes that are over, without those that no episode of the beam is in."""
        return np.flatnonzero(self._live & ~self._player.running).tolist()

    def finished(self) -> list[Decoded]:
        """The episodes in :meth:`over`."""
        batch = self._player.batch
        return [
            Decoded(
                schedule=batch.schedule(place),
                step_time_s=batch.step_time_s(place),
                actions=self._actions[place],
                log_probability=float(self._log_probability[place]),
            )
            for place in self.over()
        ]

    def _continuations(self, told: NDArray[np.float32]) -> dict[int, tuple[int, int]]:
        """Choose the likeliest, and give each a place.

        The first one of an episode goes on where that stands; the others go to places that no
        continuation was chosen from.
        """
        total = self._log_probability[:, None] + told
        over = ~self._player.running
        total[over] = -np.inf
        total[over, 0] = self._log_probability[over]
        total[~self._live] = -np.inf
        ranked = np.argsort(-total, axis=None, kind="stable")[: len(total)]
        chosen = [divmod(int(rank), total.shape[1]) for rank in ranked]
        chosen = [pair for pair in chosen if np.isfinite(total[pair])]
        stays = {parent: (parent, action) for parent, action in reversed(chosen)}
        free = [place for place in range(len(total)) if place not in stays]
        moves = [pair for pair in chosen if stays[pair[0]] != pair]
        self._live[free] = False
        found = dict(stays)
        for place, (parent, action) in zip(free, moves, strict=False):
            self._player.copy(parent, place)
            self._actions[place] = self._actions[parent]
            self._log_probability[place] = self._log_probability[parent]
            self._live[place] = True
            found[place] = (parent, action)
        return found

    def _act(self, actions: NDArray[np.int64], told: NDArray[np.float32] | None) -> None:
        """Act, and add up the log-probabilities of what the network was asked about."""
        for place in np.flatnonzero(self._player.running).tolist():
            action = int(actions[place])
            self._actions[place] += (action,)
            if told is not None:
                self._log_probability[place] += told[place, action]
        self._player.act(actions)


def likeliest(told: NDArray[np.float32]) -> NDArray[np.int64]:
    """The action of largest probability in every episode.  # [E, A] -> [E]."""
    best: NDArray[np.int64] = told.argmax(axis=1)
    return best


def drawn(generator: np.random.Generator, temperature: float) -> Choice:
    """Draw by the largest of scores with Gumbel noise (Gumbel, 1954)."""

    def choose(told: NDArray[np.float32]) -> NDArray[np.int64]:
        noisy = told / temperature + generator.gumbel(size=told.shape)
        drawn: NDArray[np.int64] = noisy.argmax(axis=1)
        return drawn

    return choose
