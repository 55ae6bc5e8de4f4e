"""Episodes as the network sees them: everything that was shown, what was done, what it is worth.

Legend: L lessons, E episodes, T steps of all episodes, N most units, A actions, F choice columns,
S state columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from remora.agents.learned.batch import GraphBatch, StepBatch, graphs_of
from remora.envs.actions import NUM_ACTIONS
from remora.envs.arrays import CHOICE_COLUMNS

__all__ = ["Minibatch", "Recordings"]


@dataclass(frozen=True)
class Minibatch:
    """Whole episodes, ready for the network.

    Attributes:
        graphs: of the lessons, each once.
        steps: of all episodes.
        decisions: about units, -1 where there is none.  # [E, N]
        graph: row of the graph of every episode.  # [E]
        episode: row of ``decisions`` of every step.  # [T]
        mask: what was allowed.  # [T, A]
        targets: how likely each action should be.  # [T, A]
        weights: how much that counts.  # [T]
        returns: rewards from the step on.  # [T]
    """

    graphs: GraphBatch
    steps: StepBatch
    decisions: Tensor
    graph: Tensor
    episode: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor
    returns: Tensor


@dataclass(frozen=True)
class Recordings:
    """The steps of many episodes, one episode after the other.

    Attributes:
        static: what stays the same in a lesson.  # {name: [L, length]}
        lesson: of every episode.  # [E]
        starts: first step of every episode, and the number of all steps.  # [E + 1]
        decisions: about units, -1 where there is none.  # [E, N]
        cursor: unit to decide about, first unit of its stage.  # [T, 2]
        state: what changes.  # [T, S]
        choices: where each action leads.  # [T, A * F]
        mask, targets, weights, returns: see :class:`Minibatch`.
    """

    static: Mapping[str, Tensor]
    lesson: Tensor
    starts: Tensor
    decisions: Tensor
    cursor: Tensor
    state: Tensor
    choices: Tensor
    mask: Tensor
    targets: Tensor
    weights: Tensor
    returns: Tensor

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lesson)

    def take(self, episodes: Sequence[int]) -> Minibatch:
        """Put some episodes together.

        Args:
            episodes: their numbers.  # [E]
        """
        rows = torch.as_tensor(episodes)
        lessons, graph = self.lesson[rows].unique(return_inverse=True)
        graphs = graphs_of(self.static, lessons.tolist())
        starts, ends = self.starts[rows], self.starts[rows + 1]
        episode = torch.repeat_interleave(torch.arange(len(rows)), ends - starts)
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        steps = torch.cat([torch.arange(start, end) for start, end in pairs])
        return Minibatch(
            graphs=graphs,
            steps=StepBatch(
                graph=graph[episode],
                cursor=self.cursor[steps, 0],
                stage_start=self.cursor[steps, 1],
                state=self.state[steps],
                choices=self.choices[steps].reshape(-1, NUM_ACTIONS, len(CHOICE_COLUMNS)),
            ),
            decisions=self.decisions[rows, : graphs.there.shape[1]],
            graph=graph,
            episode=episode,
            mask=self.mask[steps],
            targets=self.targets[steps],
            weights=self.weights[steps],
            returns=self.returns[steps],
        )
