"""Keeping the best network of a training: judged by its greedy decode on fixed problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from remora.agents.learned.decoding import Decoder
from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.policy_files import load_policy, save_policy
from remora.envs.episode import Episode
from remora.envs.sampler import ProblemSampler

__all__ = ["BestPolicy", "validation_episodes"]


def validation_episodes(sampler: ProblemSampler, budgets_per_case: int) -> tuple[Episode, ...]:
    """Every case under budgets spread evenly over the sampler's range."""
    low, high = sampler.budgets.low, sampler.budgets.high
    shares = low + (high - low) * (np.arange(budgets_per_case) + 0.5) / budgets_per_case
    return tuple(
        Episode(tables, tables.budget_bytes(float(share)))
        for tables in sampler.tables
        for share in shares
    )


class BestPolicy:
    """The network with the lowest mean cost so far, kept in a folder so that it can be resumed.

    Args:
        folder: where the policy is written; an earlier one there is the best so far if ``resume``.
        episodes: what networks are judged by.
        resume: go on from what the folder holds.
    """

    def __init__(self, folder: Path, episodes: Sequence[Episode], resume: bool = False) -> None:
        self._folder = folder
        self._episodes = episodes
        self._best_cost = float("inf")
        if resume and folder.is_dir():
            self._best_cost = float(load_policy(folder)[1]["mean_cost"])

    def consider(self, network: PlanNetwork, step: int) -> float:
        """Judge a network and keep it if it is better than all before.

        Args:
            network: the network now.
            step: decisions it has learned from.

        Returns:
            Its mean cost: log of step time over keeping everything.
        """
        cost = fmean(Decoder(network, episode).greedy().cost for episode in self._episodes)
        if cost < self._best_cost:
            self._best_cost = cost
            save_policy(self._folder, network, {"mean_cost": cost, "step": step})
        return cost

    def best(self) -> PlanNetwork:
        """Return the best network so far."""
        return load_policy(self._folder)[0]
