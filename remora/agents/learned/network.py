"""The policy network: graphs are encoded once per episode, decisions read sums of embeddings.

A decision looks at the units around the cursor, at sums over the units before and after it and at
what was decided about them. All of these are differences of running sums, so a step of an episode
takes the same time in every graph.

Legend: G graphs, N most units of a graph, B decisions to take, A actions, C context, H width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from remora.agents.learned.batch import GraphBatch, StepBatch
from remora.agents.learned.encoders import ENCODERS
from remora.agents.learned.heads import CHOICES_LENGTH, STATE_LENGTH, ActionHead, ValueHead
from remora.envs.actions import NUM_ACTIONS
from remora.errors import InvalidInputError, UnknownNameError

__all__ = ["Decided", "Encoding", "NetworkSize", "PlanNetwork", "Reader", "decided_at"]

AHEAD = 4
"""Units after the next one whose mean is looked at apart."""

NUM_PARTS = 9
"""Embeddings that a context is made of."""


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """How large the network is, and of which kind.

    Attributes:
        width: features of a unit inside the network.
        rounds: rounds of message passing, or hidden layers.
        heads: attention heads; divides ``width``.
        encoder: name in ``ENCODERS``.
    """

    width: int = 64
    rounds: int = 3
    heads: int = 4
    encoder: str = "gnn"

    def __post_init__(self) -> None:
        """Check what would only fail deep inside a layer."""
        for name in ("width", "rounds", "heads"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"network.{name} is {value!r}; allowed: 1 or more")
        if self.width % self.heads:
            raise InvalidInputError(
                f"network.heads is {self.heads}; allowed: a divisor of width = {self.width}"
            )
        if self.encoder not in ENCODERS:
            raise UnknownNameError("encoder", self.encoder, ENCODERS)

    @property
    def context(self) -> int:
        """Length C of the context of a decision."""
        return NUM_PARTS * self.width + STATE_LENGTH + CHOICES_LENGTH

    def as_dict(self) -> dict[str, Any]:
        """The values as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Encoding:
    """Graphs as decisions read them; row N of a graph stands for its end.

    Attributes:
        units: embeddings, zeros where there is no unit.  # [G, N + 1, H]
        told: what a unit adds to the embedding of a decision about it.  # [G, N + 1, H]
        before: sums of the embeddings of all units before.  # [G, N + 1, H]
        sizes: numbers of units.  # [G]
    """

    units: Tensor
    told: Tensor
    before: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class Decided:
    """Sums of embeddings of decisions so far.

    Attributes:
        all: about every unit before the cursor.  # [B, H]
        stage: about those of the cursor's stage.  # [B, H]
    """

    all: Tensor
    stage: Tensor


class Reader(nn.Module):
    """Encodes graphs, and gathers what a decision needs to know.

    Args:
        size: sizes of the network.
    """

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        self.encoder = ENCODERS[size.encoder](size.width, size.rounds, size.heads)
        self.unit = nn.Linear(size.width, size.width)
        self.decision = nn.Embedding(NUM_ACTIONS, size.width)

    def encode(self, graphs: GraphBatch) -> Encoding:
        """Encode graphs, once per episode."""
        units = nn.functional.pad(self.encoder(graphs), (0, 0, 0, 1))
        return Encoding(
            units=units,
            told=self.unit(units),
            before=units.cumsum(dim=1) - units,
            sizes=graphs.there.sum(dim=1),
        )

    def decision_embedding(
        self, encoding: Encoding, graph: Tensor, unit: Tensor, action: Tensor
    ) -> Tensor:
        """Embed decisions; sums of these are what :class:`Decided` holds.

        Args:
            encoding: of the graphs.
            graph: row of the graph of each.  # [B]
            unit: what is decided about.  # [B]
            action: what is decided.  # [B]

        Returns:
            Embeddings.  # [B, H]
        """
        return torch.relu(encoding.told[graph, unit] + self.decision(action))

    def decided_before(self, encoding: Encoding, graph: Tensor, decisions: Tensor) -> Tensor:
        """Sum up the embeddings of the decisions before every unit, and before the end.

        Args:
            encoding: of the graphs.
            graph: row of the graph of each episode.  # [B]
            decisions: -1 where there is none.  # [B, N]

        Returns:
            Sums.  # [B, N + 1, H]
        """
        num_units = decisions.shape[1]
        told = encoding.told[graph, :num_units]
        each = torch.relu(told + self.decision(decisions.clamp(min=0)))
        each = each * (decisions >= 0)[:, :, None]
        return nn.functional.pad(each.cumsum(dim=1), (0, 0, 1, 0))

    def context(self, encoding: Encoding, steps: StepBatch, decided: Decided) -> Tensor:
        """Gather what decisions need to know.

        Args:
            encoding: of the graphs.
            steps: where episodes stand.
            decided: what was decided there.

        Returns:
            Embeddings, state and choices.  # [B, C]
        """
        graph, cursor, start = steps.graph, steps.cursor, steps.stage_start
        end = encoding.units.shape[1] - 1
        before = encoding.before
        so_far = before[graph, cursor]
        following, near = (cursor + 1).clamp(max=end), (cursor + 1 + AHEAD).clamp(max=end)
        after_next = before[graph, following]
        in_stage = (cursor - start).clamp(min=1)[:, None]
        left = (encoding.sizes[graph] - cursor).clamp(min=1)[:, None]
        whole = before[graph, end]
        parts = [
            encoding.units[graph, cursor],
            encoding.units[graph, following],
            (before[graph, near] - after_next) / AHEAD,
            (so_far - before[graph, start]) / in_stage,
            decided.all / cursor.clamp(min=1)[:, None],
            decided.stage / in_stage,
            (whole - so_far) / left,
            so_far / encoding.sizes[graph][:, None],
            whole / encoding.sizes[graph][:, None],
        ]
        return torch.cat([*parts, steps.state, steps.choices.flatten(1)], dim=1)


class PlanNetwork(nn.Module):
    """Reader and heads together: the whole policy, free of any training library.

    Args:
        size: sizes of the network.
    """

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        self.reader = Reader(size)
        self.action_head = ActionHead(size.context, size.width)
        self.value_head = ValueHead(size.context, size.width)

    @classmethod
    def fresh(cls, size: NetworkSize, seed: int) -> PlanNetwork:
        """Make an untrained network, ready to decode; the same seed draws the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(size).eval()

    @classmethod
    def of_weights(cls, size: NetworkSize, weights: Mapping[str, Tensor]) -> PlanNetwork:
        """Make a network with given weights, ready to decode; draws no random numbers.

        Raises:
            RuntimeError: the weights are those of another size.
        """
        with torch.random.fork_rng(devices=[]):
            network = cls(size)
        network.load_state_dict(weights)
        return network.eval()

    def forward(
        self, encoding: Encoding, steps: StepBatch, decided: Decided
    ) -> tuple[Tensor, Tensor]:
        """Score actions, masked ones too, and predict the return.  # [B, A], [B, 1]."""
        context = self.reader.context(encoding, steps, decided)
        return self.action_head(context), self.value_head(context)


def decided_at(before: Tensor, rows: Tensor, steps: StepBatch) -> Decided:
    """Take the sums at cursors out of those before every unit.

    Args:
        before: of :meth:`Reader.decided_before`.  # [rows, N + 1, H]
        rows: whose decisions each step goes on from.  # [B]
        steps: where episodes stand.
    """
    so_far = before[rows, steps.cursor]
    return Decided(so_far, so_far - before[rows, steps.stage_start])
