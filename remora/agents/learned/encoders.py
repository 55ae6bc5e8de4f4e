"""Encoders: from the features of a unit graph to one embedding per unit, whatever is decided.

Legend: G graphs, N most units of a graph, L edges of all graphs, H width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv  # type: ignore[import-untyped]

from remora.agents.learned.batch import GIVEN, GraphBatch
from remora.envs.graphs import EDGE_COLUMNS, NODE_COLUMNS

__all__ = ["ENCODERS", "Conditioning", "GraphEncoder", "MlpEncoder", "unit_inputs"]

SUMMED = tuple(
    NODE_COLUMNS.index(name) for name in ("forward_time", "backward_time", "saved", "own_saved")
)
"""Node columns whose sum up to a unit says where balanced stages end."""

WAVES = (1, 2, 4, 8)
"""Waves of the position from the first to the last unit."""

NEAR_END = 16
"""Units from either end that are told apart by their distance to it."""

NUM_INPUTS = len(NODE_COLUMNS) + len(SUMMED) + 2 * len(WAVES) + 3


class Conditioning(nn.Module):
    """Scales and shifts features by budget and hardware.

    Feature-wise linear modulation: Perez et al., https://arxiv.org/abs/1709.07871.

    Args:
        width: number of features H.
        rounds: how many pairs of scale and shift.
    """

    def __init__(self, width: int, rounds: int) -> None:
        super().__init__()
        self.shape = (rounds, 2, 1, width)
        last = nn.Linear(width, rounds * 2 * width)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(len(GIVEN), width), nn.ReLU(), last)

    def forward(self, given: Tensor) -> Tensor:
        """Pairs of every round.  # [G, len(GIVEN)] -> [rounds, 2, G, 1, H]."""
        pairs: Tensor = self.layers(given).reshape(len(given), *self.shape)
        return pairs.permute(1, 2, 0, 3, 4)


class GraphEncoder(nn.Module):
    """Rounds of messages: along edges, along the chain, and from the mean of all units.

    Along edges by graph attention (GATv2, Brody et al., https://arxiv.org/abs/2105.14491).

    Args:
        width: features of a unit H.
        rounds: rounds of messages.
        heads: attention heads; divides ``width``.
    """

    def __init__(self, width: int, rounds: int, heads: int) -> None:
        super().__init__()
        self.into = nn.Linear(NUM_INPUTS, width)
        self.given = Conditioning(width, rounds)
        self.edges = nn.ModuleList(
            GATv2Conv(
                width, width // heads, heads, edge_dim=len(EDGE_COLUMNS), add_self_loops=False
            )
            for _ in range(rounds)
        )
        self.chain = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(rounds))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(rounds))

    def forward(self, graphs: GraphBatch) -> Tensor:
        """Embed every unit; zeros where there is none.  # [G, N, H]."""
        there = graphs.there[:, :, None]
        units = torch.relu(self.into(unit_inputs(graphs))) * there
        sizes = there.sum(dim=1, keepdim=True)  # [G, 1, 1]
        pairs = self.given(graphs.given)
        layers = zip(self.edges, self.chain, self.norms, pairs, strict=True)
        for edges, chain, norm, (scale, shift) in layers:
            heard = edges(units.flatten(0, 1), graphs.edge_index, graphs.edges).view_as(units)
            mean = (units.sum(dim=1, keepdim=True) / sizes).expand_as(units)
            heard = heard + chain(torch.cat([_moved(units, 1), _moved(units, -1), mean], dim=2))
            units = norm(units + torch.relu(heard * (1 + scale) + shift)) * there
        return units


class MlpEncoder(nn.Module):
    """The same inputs without any message from one unit to another.

    Args:
        width: features of a unit H.
        rounds: hidden layers.
        heads: not used; every encoder is made from the same sizes.
    """

    def __init__(self, width: int, rounds: int, heads: int) -> None:
        super().__init__()
        del heads
        self.into = nn.Linear(NUM_INPUTS, width)
        self.given = Conditioning(width, rounds)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(rounds))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(rounds))

    def forward(self, graphs: GraphBatch) -> Tensor:
        """Embed every unit; zeros where there is none.  # [G, N, H]."""
        units = torch.relu(self.into(unit_inputs(graphs)))
        pairs = self.given(graphs.given)
        for layer, norm, (scale, shift) in zip(self.layers, self.norms, pairs, strict=True):
            units = norm(units + torch.relu(layer(units) * (1 + scale) + shift))
        return units * graphs.there[:, :, None]


ENCODERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "gnn": GraphEncoder,
    "mlp": MlpEncoder,
}
"""Encoders by name; made from width, rounds and heads."""


def unit_inputs(graphs: GraphBatch) -> Tensor:
    """Features of units, what comes before them, and where they stand.  # [G, N, NUM_INPUTS]."""
    summed = graphs.nodes[:, :, SUMMED]
    total = summed.sum(dim=1, keepdim=True)
    before = (summed.cumsum(dim=1) - summed) / (total.abs() + 1e-6)
    return torch.cat([graphs.nodes, before, _positions(graphs)], dim=2)


def _positions(graphs: GraphBatch) -> Tensor:
    """Waves over the whole chain, distance to both ends, number of units."""
    count, most = graphs.there.shape
    place = torch.arange(most, device=graphs.nodes.device).expand(count, most)
    sizes = graphs.there.sum(dim=1, keepdim=True)  # [G, 1]
    turns = math.pi * place / sizes
    parts = [wave(turns * number) for number in WAVES for wave in (torch.sin, torch.cos)]
    parts.append(place.clamp(max=NEAR_END) / NEAR_END)
    parts.append((sizes - 1 - place).clamp(max=NEAR_END) / NEAR_END)
    parts.append((sizes.log2() / 8).expand(count, most))
    return torch.stack(parts, dim=2)


def _moved(units: Tensor, by: int) -> Tensor:
    """Every unit's neighbour in the chain, zeros at the ends.  # [G, N, H]."""
    moved = torch.zeros_like(units)
    if by > 0:
        moved[:, by:] = units[:, :-by]
    else:
        moved[:, :by] = units[:, -by:]
    return moved
