"""The network that corrects a simulated step: a bounded correction of every unit's share of it.

A step is the sum of its parts. The network says for every part of every unit and for the rest, the
optimizer, by which factor the simulator is wrong, adds host time per event, and bounds the whole,
so that a correction can never leave the neighbourhood of the simulation. Untrained it corrects
nothing.

Legend: N units of all steps together (or [U, n] of one graph under n schedules), E edges, F unit
features, P parts, K events, G step features, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphConv  # type: ignore[import-untyped]

from remora.cost_models.gnn.step_features import NODE_FEATURES, STEP_FEATURES, EncodedSteps
from remora.cost_models.gnn.step_parts import EVENTS, PARTS

__all__ = ["LIMIT", "StepBatch", "StepNetwork", "batch_of_graph", "join_steps"]

LIMIT = 0.7
"""Largest logarithm of a correction: a factor of 2."""

_PART_LIMIT = 0.7
_STEP_LIMIT = 0.2
_REST = STEP_FEATURES.index("rest_share")
_CLAMP = 3.0


@dataclass(frozen=True)
class StepBatch:
    """Steps as tensors.

    Attributes:
        nodes: unit features.  # [N, F] or [U, n, F]
        shares: of the busy time, by part.  # [N, P] or [U, n, P]
        events: their share of the busy time, if each took what it takes about.  # [n, K]
        steps: step features.  # [n, G]
        edges: of the unit graphs.  # [2, E]
        owner: step of every unit; None where all steps share one graph.  # [N]
    """

    nodes: Tensor
    shares: Tensor
    events: Tensor
    steps: Tensor
    edges: Tensor
    owner: Tensor | None


class StepNetwork(nn.Module):
    """Logarithm of measured over simulated step time.

    Message passing: GraphConv, Morris et al., https://arxiv.org/abs/1810.02244.

    Args:
        hidden: width H.
        layers: rounds of message passing.
    """

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        for name, size in (("node", len(NODE_FEATURES)), ("step", len(STEP_FEATURES))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.hidden = hidden
        self.into = nn.Linear(len(NODE_FEATURES), hidden)
        # Units come first in every tensor, so one graph serves n schedules of it at once.
        self.layers = nn.ModuleList(
            GraphConv(hidden, hidden, aggr="mean", node_dim=0) for _ in range(layers)
        )
        self.parts = nn.Linear(hidden, len(PARTS))
        self.part_bias = nn.Parameter(torch.zeros(len(PARTS)))
        self.event_cost = nn.Parameter(torch.zeros(len(EVENTS)))
        self.step_in = nn.Linear(len(STEP_FEATURES), hidden)
        self.step_out = nn.Linear(hidden, 2)
        self.rest_bias = nn.Parameter(torch.zeros(()))
        for last in (self.parts, self.step_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def fit_scale(self, batch: StepBatch) -> None:
        """Take mean and deviation of the features from a batch."""
        for name, values in (("node", batch.nodes), ("step", batch.steps)):
            flat = values.reshape(-1, values.shape[-1])
            getattr(self, f"{name}_mean").copy_(flat.mean(0))
            # A feature that hardly varies must not blow up where it does.
            getattr(self, f"{name}_std").copy_(flat.std(0, correction=0).clamp_min(0.05))

    def forward(self, batch: StepBatch) -> Tensor:
        """Correct steps.  # [n]."""
        x = torch.relu(self.into(self._scaled(batch.nodes, "node")))
        for layer in self.layers:
            x = x + torch.relu(layer(x, batch.edges))
        parts = _bounded(self.parts(x) + self.part_bias, _PART_LIMIT)  # [N, P]
        change = (batch.shares * torch.expm1(parts)).sum(-1)  # [N] or [U, n]
        step = torch.relu(self.step_in(self._scaled(batch.steps, "step")))
        whole, rest = self.step_out(step).unbind(-1)  # [n] each
        rest = batch.steps[:, _REST] * torch.expm1(_bounded(rest + self.rest_bias, _PART_LIMIT))
        total = _pooled(change, batch) + rest + batch.events @ self.event_cost  # [n]
        return _bounded(torch.log1p(total.clamp_min(-0.9)) + _bounded(whole, _STEP_LIMIT), LIMIT)

    def _scaled(self, values: Tensor, name: str) -> Tensor:
        mean, std = getattr(self, f"{name}_mean"), getattr(self, f"{name}_std")
        scaled: Tensor = ((values - mean) / std).clamp(-_CLAMP, _CLAMP)
        return scaled


def batch_of_graph(encoded: EncodedSteps) -> StepBatch:
    """Schedules of one graph as a batch that shares its edges."""
    return StepBatch(
        nodes=torch.from_numpy(encoded.nodes),
        shares=_float(encoded.seconds / encoded.busy_s[:, None]),
        events=_float(encoded.events * encoded.event_s / encoded.busy_s[:, None]),
        steps=_float(encoded.steps),
        edges=torch.from_numpy(encoded.edges),
        owner=None,
    )


def join_steps(batches: Sequence[StepBatch]) -> StepBatch:
    """Put steps of several graphs, one schedule each, into one batch."""
    sizes = [batch.nodes.shape[0] for batch in batches]
    starts = np.cumsum([0, *sizes[:-1]])
    edges = [b.edges + int(start) for b, start in zip(batches, starts, strict=True)]
    return StepBatch(
        nodes=torch.cat([batch.nodes[:, 0] for batch in batches]),
        shares=torch.cat([batch.shares[:, 0] for batch in batches]),
        events=torch.cat([batch.events for batch in batches]),
        steps=torch.cat([batch.steps for batch in batches]),
        edges=torch.cat(edges, dim=1),
        owner=torch.repeat_interleave(torch.tensor(sizes)),
    )


def _pooled(values: Tensor, batch: StepBatch) -> Tensor:
    """Sum over the units of every step.  # [n]."""
    if batch.owner is None:
        return values.sum(0)
    return values.new_zeros(batch.steps.shape[0]).index_add(0, batch.owner, values)


def _bounded(values: Tensor, limit: float) -> Tensor:
    return limit * torch.tanh(values / limit)


def _float(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
