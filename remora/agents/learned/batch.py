"""Unit graphs and episode states of several episodes at once, as tensors.

Legend: M units of all graphs together, E edges of all graphs, B episodes, A decisions of a unit,
N and L padded units and edges of one observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from remora.envs.actions import UnitAction
from remora.envs.episode import Episode
from remora.envs.features import (
    EDGE_FEATURES,
    NODE_FEATURES,
    GraphFeatures,
    choice_features,
    decision_features,
    state_features,
)

__all__ = [
    "GraphBatch",
    "StateBatch",
    "graph_of_episode",
    "graphs_of_observations",
    "state_of_episode",
    "states_of_observations",
]


@dataclass(frozen=True)
class GraphBatch:
    """Graphs without padding, laid end to end.

    Attributes:
        nodes: features of units.  # [M, node features]
        edge_index: from unit, to unit, counted over all graphs.  # [2, E]
        edges: features of edges.  # [E, edge features]
        owner: graph of every unit.  # [M]
        position: place of every unit in its own graph.  # [M]
    """

    nodes: Tensor
    edge_index: Tensor
    edges: Tensor
    owner: Tensor
    position: Tensor


@dataclass(frozen=True)
class StateBatch:
    """What changes from step to step.

    Attributes:
        decisions: one-hot decisions so far.  # [M, A]
        cursor: unit to decide about, in its own graph.  # [B]
        state: budget and progress.  # [B, state features]
        choices: where each decision leads.  # [B, A * choice features]
    """

    decisions: Tensor
    cursor: Tensor
    state: Tensor
    choices: Tensor


def graph_of_episode(graph: GraphFeatures) -> GraphBatch:
    """One graph at its exact size."""
    num_units = len(graph.nodes)
    return GraphBatch(
        nodes=torch.from_numpy(graph.nodes),
        edge_index=torch.from_numpy(graph.edge_index),
        edges=torch.from_numpy(graph.edges),
        owner=torch.zeros(num_units, dtype=torch.long),
        position=torch.arange(num_units),
    )


def state_of_episode(episode: Episode) -> StateBatch:
    """The state of one episode at its exact size."""
    num_units = episode.tables.num_units
    return StateBatch(
        decisions=torch.from_numpy(decision_features(episode.decisions, num_units)),
        cursor=torch.tensor([episode.cursor]),
        state=torch.from_numpy(state_features(episode))[None],
        choices=torch.from_numpy(choice_features(episode)).reshape(1, -1),
    )


def graphs_of_observations(observations: Mapping[str, Tensor]) -> GraphBatch:
    """Remove the padding of observations.

    Args:
        observations: arrays of ``observe``, a row per episode.  # [B, length]
    """
    unit_mask = observations["node_mask"] > 0.5  # [B, N]
    edge_mask = observations["edge_mask"] > 0.5  # [B, L]
    batch, num_units = unit_mask.shape
    sizes = unit_mask.sum(dim=1)  # [B]
    first = sizes.cumsum(0) - sizes  # [B]
    edge_index = observations["edge_index"].reshape(batch, 2, -1).round().long()  # [B, 2, L]
    shifted = edge_index + first[:, None, None]
    nodes = observations["nodes"].reshape(batch, num_units, len(NODE_FEATURES))
    edges = observations["edges"].reshape(batch, -1, len(EDGE_FEATURES))
    places = torch.arange(num_units, device=unit_mask.device).expand(batch, num_units)
    return GraphBatch(
        nodes=nodes[unit_mask],
        edge_index=shifted.transpose(0, 1)[:, edge_mask],
        edges=edges[edge_mask],
        owner=torch.repeat_interleave(torch.arange(batch, device=sizes.device), sizes),
        position=places[unit_mask],
    )


def states_of_observations(observations: Mapping[str, Tensor]) -> StateBatch:
    """Take the states out of observations.  # [B, length] each."""
    unit_mask = observations["node_mask"] > 0.5  # [B, N]
    batch, num_units = unit_mask.shape
    decisions = observations["decisions"].reshape(batch, num_units, len(UnitAction))
    return StateBatch(
        decisions=decisions[unit_mask],
        cursor=observations["cursor"].reshape(batch).round().long(),
        state=observations["state"],
        choices=observations["choices"],
    )
