"""The policy network: a graph encoder over units, and heads that look at the cursor's unit.

Legend: M units of all graphs together, E edges, B episodes, A decisions of a unit, H width,
C context of an episode.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv  # type: ignore[import-untyped]
from torch_geometric.utils import scatter  # type: ignore[import-untyped]

from remora.agents.learned.batch import GraphBatch, StateBatch
from remora.envs.actions import UnitAction
from remora.envs.features import (
    CHOICE_FEATURES,
    EDGE_FEATURES,
    NODE_FEATURES,
    STATE_FEATURES,
)

__all__ = ["ActionHead", "NetworkSize", "PlanNetwork", "UnitEncoder", "ValueHead"]

NUM_ACTIONS = len(UnitAction)
CHOICES_LENGTH = NUM_ACTIONS * len(CHOICE_FEATURES)

FIRST_PREFERENCES = tuple(
    {"cost_change": -20.0, "headroom_change": 2.0}.get(name, 0.0) for name in CHOICE_FEATURES
)
"""Untrained weight of every feature of an outlook: 1 % slower is e^2 less likely."""


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """How large the network is.

    Attributes:
        width: features of a unit inside the network.
        layers: rounds of message passing.
        heads: attention heads; divides ``width``.
    """

    width: int = 64
    layers: int = 3
    heads: int = 4

    @property
    def context(self) -> int:
        """Length C of the context of an episode."""
        return 4 * self.width + len(STATE_FEATURES) + CHOICES_LENGTH

    def as_dict(self) -> dict[str, int]:
        """The sizes as plain values."""
        return asdict(self)


class UnitEncoder(nn.Module):
    """Graph attention (GATv2, Brody et al., https://arxiv.org/abs/2105.14491) over the unit graph.

    The embedding of a unit does not depend on decisions, so it is computed once per episode; what
    was decided enters with the context.
    """

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        width = size.width
        self.into = nn.Linear(len(NODE_FEATURES), width)
        self.layers = nn.ModuleList(
            GATv2Conv(width, width // size.heads, size.heads, edge_dim=len(EDGE_FEATURES))
            for _ in range(size.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(size.layers))
        self.decided = nn.Linear(width + NUM_ACTIONS, width)

    def embed(self, graphs: GraphBatch) -> Tensor:
        """Embed every unit.  # [M, H]."""
        units = torch.relu(self.into(graphs.nodes))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            heard = layer(units, graphs.edge_index, graphs.edges)
            units = norm(units + torch.relu(heard))
        return units

    def context(self, units: Tensor, graphs: GraphBatch, states: StateBatch) -> Tensor:
        """Gather what a decision needs to know.

        Args:
            units: embeddings of :meth:`embed`.  # [M, H]
            graphs: the graphs of the episodes.
            states: their states.

        Returns:
            The unit at the cursor, the one after it, the mean of decided and of undecided units,
            state and choices.  # [B, C]
        """
        batch = states.cursor.shape[0]
        cursor = states.cursor[graphs.owner]  # [M]
        decided = torch.relu(self.decided(torch.cat([units, states.decisions], dim=1)))
        parts = [
            _mean(units, graphs.position == cursor, graphs.owner, batch),
            _mean(units, graphs.position == cursor + 1, graphs.owner, batch),
            _mean(decided, graphs.position < cursor, graphs.owner, batch),
            _mean(units, graphs.position > cursor, graphs.owner, batch),
        ]
        return torch.cat([*parts, states.state, states.choices], dim=1)

    def forward(self, graphs: GraphBatch, states: StateBatch) -> Tensor:
        """Embed units and gather the context.  # [B, C]."""
        return self.context(self.embed(graphs), graphs, states)


class ActionHead(nn.Module):
    """Scores every decision from the context, its own outlook and what it means.

    A linear score of the outlook alone is added, so that an untrained network already prefers what
    costs least at once; training finds out where that is short-sighted.
    """

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Linear(size.context, size.width), nn.Tanh())
        self.meaning = nn.Parameter(torch.zeros(NUM_ACTIONS, 16))
        nn.init.normal_(self.meaning, std=0.5)
        last = nn.Linear(size.width, 1)
        # Near-uniform at first: the masks already hold what must not be done.
        nn.init.normal_(last.weight, std=0.01)
        self.outlook = nn.Linear(len(CHOICE_FEATURES), 1, bias=False)
        with torch.no_grad():
            self.outlook.weight.copy_(torch.tensor([FIRST_PREFERENCES]))
        inputs = size.width + 16 + len(CHOICE_FEATURES)
        self.score = nn.Sequential(nn.Linear(inputs, size.width), nn.Tanh(), last)

    def forward(self, context: Tensor) -> Tensor:
        """Score decisions, masked ones too.  # [B, C] -> [B, A]."""
        batch = context.shape[0]
        outlook = context[:, -CHOICES_LENGTH:].reshape(batch, NUM_ACTIONS, -1)
        seen = self.context(context)[:, None].expand(batch, NUM_ACTIONS, -1)
        meaning = self.meaning.expand(batch, *self.meaning.shape)
        scores = self.score(torch.cat([seen, meaning, outlook], dim=2))
        total: Tensor = scores + self.outlook(outlook)
        return total.squeeze(2)


class ValueHead(nn.Module):
    """Predicts the rest of the return."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size.context, size.width),
            nn.Tanh(),
            nn.Linear(size.width, size.width),
            nn.Tanh(),
            nn.Linear(size.width, 1),
        )

    def forward(self, context: Tensor) -> Tensor:
        """Predict the return from here on.  # [B, C] -> [B, 1]."""
        value: Tensor = self.layers(context)
        return value


class PlanNetwork(nn.Module):
    """Encoder and heads together: the whole policy, free of any training library."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        self.encoder = UnitEncoder(size)
        self.action_head = ActionHead(size)
        self.value_head = ValueHead(size)

    def forward(self, graphs: GraphBatch, states: StateBatch) -> tuple[Tensor, Tensor]:
        """Score decisions and predict the return.  # [B, A], [B, 1]."""
        context = self.encoder(graphs, states)
        return self.action_head(context), self.value_head(context)


def _mean(rows: Tensor, chosen: Tensor, owner: Tensor, batch: int) -> Tensor:
    """Mean of the chosen rows of every episode, zeros where none is.  # [B, H]."""
    mean: Tensor = scatter(rows[chosen], owner[chosen], dim=0, dim_size=batch, reduce="mean")
    return mean
