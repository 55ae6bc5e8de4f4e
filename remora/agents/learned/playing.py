"""Playing episodes with a policy network outside of any training library.

Legend: E episodes, A actions, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remora.agents.learned.batch import as_tensors, distinct_graphs, graphs_of, steps_of
from remora.agents.learned.network import Decided, Encoding, PlanNetwork
from remora.envs.arrays import STATE_COLUMNS
from remora.envs.batch import EpisodeBatch, Outcome
from remora.envs.observation import JointSize
from remora.envs.plan_tables import PlanTables

__all__ = ["Moment", "Player", "exact_size"]

_IN_UNITS = STATE_COLUMNS.index("phase_units")


def exact_size(problems: Sequence[PlanTables]) -> JointSize:
    """The padding that is just enough for all of some problems."""
    graphs = [problem.unit_graph for problem in problems]
    most_edges = max(len(graph.edges) for graph in graphs)
    return JointSize(max(len(graph.nodes) for graph in graphs), max(most_edges, 1))


@dataclass(frozen=True)
class Moment:
    """Where the only episode of a player stood.

    Attributes:
        episode: of :meth:`EpisodeBatch.snapshot`.
        decided: sums of embeddings of its decisions.  # [1, H]
    """

    episode: list[NDArray[Any]]
    decided: Decided


class Player:
    """A network and the episodes that it acts in, which began and did not act yet.

    Every distinct graph is encoded once; a step takes the same time in all graphs.

    Args:
        network: the policy.
        batch: the episodes; nobody else acts in them.
        encoding: of the one graph of all episodes, if it is known already.
    """

    def __init__(
        self, network: PlanNetwork, batch: EpisodeBatch, encoding: Encoding | None = None
    ) -> None:
        self.batch = batch
        self._network = network
        count = len(batch.masks)
        if encoding is None:
            shown = as_tensors(batch.observations())
            firsts, self._graph = distinct_graphs(shown)
            with torch.no_grad():
                encoding = network.reader.encode(graphs_of(shown, firsts))
        else:
            self._graph = torch.zeros(count, dtype=torch.long)
        self.encoding = encoding
        width = network.size.width
        self._decided = Decided(torch.zeros(count, width), torch.zeros(count, width))

    @property
    def running(self) -> NDArray[np.bool_]:
        """Which episodes are not over.  # [E]."""
        return np.asarray(self.batch.masks.any(axis=1))

    def log_probabilities(self) -> Tensor:
        """Of all actions; minus infinity for what is masked and where an episode is over.

        # [E, A].
        """
        shown = as_tensors(self.batch.observations())
        steps = steps_of(shown, self._graph)
        with torch.no_grad():
            context = self._network.reader.context(self.encoding, steps, self._decided)
            scores = self._network.action_head(context)
        masked = scores.masked_fill(~torch.from_numpy(self.batch.masks), -torch.inf)
        over = torch.from_numpy(~self.running)[:, None]
        return torch.log_softmax(masked, dim=1).masked_fill(over, -torch.inf)

    def act(self, actions: NDArray[np.int64]) -> Outcome:
        """Act in every episode; one that is over stays as it is.

        Args:
            actions: allowed ones.  # [E]
        """
        shown = as_tensors(self.batch.observations())
        cursor = shown["cursor"][:, 0].long()
        in_units = shown["state"][:, _IN_UNITS, None].clone()
        with torch.no_grad():
            added = in_units * self._network.reader.decision_embedding(
                self.encoding, self._graph, cursor, torch.from_numpy(actions)
            )
        outcome = self.batch.step(actions)
        cursor, start = torch.from_numpy(self.batch.observations()["cursor"]).T
        same_stage = (start < cursor)[:, None]
        self._decided = Decided(
            self._decided.all + added, (self._decided.stage + added) * same_stage
        )
        return outcome

    def moment(self) -> Moment:
        """Where the episode stands, if there is only one."""
        decided = Decided(self._decided.all.clone(), self._decided.stage.clone())
        return Moment(self.batch.snapshot(), decided)

    def adopt(self, place: int, moment: Moment) -> None:
        """Let an episode stand where that of another player of the same one problem stood."""
        self.batch.adopt(place, moment.episode)
        self._decided.all[place] = moment.decided.all[0]
        self._decided.stage[place] = moment.decided.stage[0]

    def copy(self, place_from: int, place_to: int) -> None:
        """Let one episode stand where another one does."""
        self.batch.copy(place_from, place_to)
        self._graph[place_to] = self._graph[place_from]
        for sums in (self._decided.all, self._decided.stage):
            sums[place_to] = sums[place_from]
