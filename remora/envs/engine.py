"""The rules of episodes: how one begins, what an action changes, what is shown and allowed."""

from __future__ import annotations

from typing import Protocol

from remora.envs.actions import Setting
from remora.envs.arrays import Episodes, Ints

__all__ = ["Engine"]


class Engine(Protocol):
    """Rules for some problems; it keeps tables of them and leaves all that changes to arrays."""

    @property
    def num_storages(self) -> int:
        """Most crossing storages of a problem."""

    @property
    def num_stages(self) -> int:
        """Most stages of a pipeline."""

    def begin(self, episodes: Episodes, place: int, index: int, budget_bytes: int) -> None:
        """Start an episode, and fill what it shows.

        Args:
            episodes: to change.
            place: of the episode.
            index: of the problem.
            budget_bytes: memory of every device; enough for an episode.
        """

    def step(self, episodes: Episodes, actions: Ints, replaced: Ints) -> None:
        """Act in every episode that is not over, and fill what all of them show.

        Args:
            episodes: to change.
            actions: one for each; what is not allowed becomes the fallback.  # [e]
            replaced: to fill, 1 where the fallback was taken.  # [e]
        """

    def setting(self, episodes: Episodes, place: int) -> Setting:
        """What was decided before the first unit; defaults before that."""
