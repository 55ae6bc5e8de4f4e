"""Finding plans with a policy: greedily, by drawing many, or by keeping a beam of the likeliest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from remora.agents.learned.games import Decoded, Game, drawn, likeliest
from remora.agents.learned.network import Encoding, PlanNetwork
from remora.agents.learned.playing import Player, exact_size
from remora.envs.batch import EpisodeBatch
from remora.envs.plan_tables import PlanTables
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["Decoded", "Decoder"]

_BEAM_PER_BEGINNING = 4
"""Beginnings that differ in the pace of copies only take places of the beam, too."""


class Decoder:
    """Plays episodes of one problem under one budget; its graph is encoded once.

    Args:
        network: the policy.
        tables: of the problem.
        budget_bytes: memory of the device.
        stop: asked before every decision, for example whether a time is over. Episodes that are
            not finished then are left out, except the greedy one, which is completed without the
            network by what needs least memory.
        together: most episodes that are played side by side.

    Raises:
        InvalidInputError: no episode is sure to fit the budget.
    """

    def __init__(
        self,
        network: PlanNetwork,
        tables: PlanTables,
        budget_bytes: int,
        stop: Callable[[], bool] = lambda: False,
        together: int = 64,
    ) -> None:
        self._network = network
        self._budget_bytes = budget_bytes
        self._stop = stop
        self._together = together
        self._sampler = JointSampler([tables])
        self._size = exact_size([tables])
        self._encoding: Encoding | None = None

    def greedy(self) -> Decoded:
        """Take the likeliest action in every step."""
        game = Game(self._player([self._budget_bytes]))
        game.play(likeliest, self._stop)
        game.complete()
        return game.finished()[0]

    def beginnings(self, count: int, budget_bytes: int) -> list[tuple[int, ...]]:
        """The likeliest ways to begin that differ in pipeline, micro-batches or state.

        Args:
            count: most of them.
            budget_bytes: what masks judge by.

        Returns:
            Actions before the first unit's, the likeliest first.
        """
        game = Game(self._player([budget_bytes] * (_BEAM_PER_BEGINNING * count)))
        return game.settings(self._stop)[:count]

    def greedy_under(self, asked: Sequence[tuple[int, tuple[int, ...]]]) -> list[Decoded | None]:
        """Take the likeliest actions, side by side under several budgets.

        Args:
            asked: for each plan what masks judge by instead of the real budget, which is not
                below what an episode is sure to fit, and what is done first.

        Returns:
            The plans; None for one that was not finished in time.
        """
        game = Game(self._player([budget for budget, _ in asked]))
        game.begin([beginning for _, beginning in asked], self._stop)
        game.play(likeliest, self._stop)
        finished = dict(zip(game.over(), game.finished(), strict=True))
        return [finished.get(place) for place in range(len(asked))]

    def samples(
        self,
        count: int,
        generator: np.random.Generator,
        temperature: float = 1.0,
        budgets_bytes: Sequence[int] = (),
    ) -> list[Decoded]:
        """Draw episodes.

        Args:
            count: how many.
            generator: draws; the same state draws the same episodes.
            temperature: above 1 flattens, below 1 sharpens what is drawn from.
            budgets_bytes: what masks judge by, in turn; the real budget if there is none.

        Raises:
            InvalidInputError: the temperature is not positive.
        """
        if not temperature > 0:
            raise InvalidInputError(f"temperature is {temperature}; allowed: more than 0")
        found: list[Decoded] = []
        while len(found) < count and not self._stop():
            places = range(min(self._together, count - len(found)))
            budgets = budgets_bytes or (self._budget_bytes,)
            game = Game(self._player([budgets[place % len(budgets)] for place in places]))
            game.play(drawn(generator, temperature), self._stop)
            found += game.finished()
        return found

    def beam(self, width: int) -> list[Decoded]:
        """Keep the likeliest beginnings of episodes until all of them are finished.

        Args:
            width: how many are kept.

        Raises:
            InvalidInputError: the width is not positive.
        """
        if width < 1:
            raise InvalidInputError(f"beam is {width}; allowed: 1 or more")
        game = Game(self._player([self._budget_bytes] * width))
        game.search(self._stop)
        return game.finished()

    def best_of(
        self, count: int, generator: np.random.Generator, temperature: float = 1.0
    ) -> Decoded:
        """Return the fastest of the greedy plan and drawn ones; see :meth:`samples`."""
        found = [self.greedy(), *self.samples(count, generator, temperature)]
        return min(found, key=lambda decoded: decoded.step_time_s)

    def _player(self, budgets_bytes: Sequence[int]) -> Player:
        batch = EpisodeBatch(self._sampler, len(budgets_bytes), self._size)
        for place, budget_bytes in enumerate(budgets_bytes):
            batch.begin(place, 0, budget_bytes)
        if set(budgets_bytes) != {self._budget_bytes}:
            return Player(self._network, batch)
        player = Player(self._network, batch, self._encoding)
        self._encoding = player.encoding
        return player
