"""Playing episodes with a policy network outside of any training library, at exact sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from remora.agents.learned.batch import GraphBatch, graph_of_episode, state_of_episode
from remora.agents.learned.network import PlanNetwork
from remora.envs.episode import Episode
from remora.envs.features import graph_features

__all__ = ["Decoder"]


class Decoder:
    """Plays episodes of one problem and budget; its unit graph is encoded once.

    Args:
        network: a trained policy.
        episode: the state to start from.
        stop: asked before every decision; once true, episodes are returned as they stand. Their
            completed plans fit all the same.
    """

    def __init__(
        self,
        network: PlanNetwork,
        episode: Episode,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._network = network
        self._episode = episode
        self._stop = stop
        self._graph: GraphBatch = graph_of_episode(graph_features(episode))
        with torch.no_grad():
            self._units: Tensor = network.encoder.embed(self._graph)  # [N, H]

    def greedy(self) -> Episode:
        """Take the decision of highest score at every unit; returns the finished episode."""
        episode = self._episode
        while not (episode.done or self._stop()):
            episode = episode.after(int(self._log_probabilities(episode).argmax()))
        return episode

    def samples(self, count: int, generator: np.random.Generator) -> Iterator[Episode]:
        """Draw finished episodes from the policy, one after the other.

        Args:
            count: how many.
            generator: draws; the same state draws the same episodes.
        """
        for _ in range(count):
            episode = self._episode
            while not (episode.done or self._stop()):
                shares = self._log_probabilities(episode).exp().double().numpy()
                episode = episode.after(int(generator.choice(len(shares), p=shares / shares.sum())))
            yield episode

    def _log_probabilities(self, episode: Episode) -> Tensor:
        """Log-probability of every decision, minus infinity where masked.  # [num_actions]."""
        with torch.no_grad():
            states = state_of_episode(episode)
            context = self._network.encoder.context(self._units, self._graph, states)
            scores = self._network.action_head(context)[0]
        allowed = torch.from_numpy(episode.mask)
        return torch.log_softmax(scores.masked_fill(~allowed, -torch.inf), dim=0)
