"""Unit graphs and states of many episodes as tensors.

Legend: G graphs, N most units of a graph, L edges of all graphs, B decisions to take, A actions,
F choice columns, S state columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from remora.envs.actions import NUM_ACTIONS
from remora.envs.arrays import CHOICE_COLUMNS, STATE_COLUMNS
from remora.envs.graphs import EDGE_COLUMNS, NODE_COLUMNS
from remora.envs.observation import Observation

__all__ = [
    "GIVEN",
    "GraphBatch",
    "StepBatch",
    "as_tensors",
    "decision_numbers",
    "distinct_graphs",
    "graphs_of",
    "steps_of",
]

GIVEN = [place for place, name in enumerate(STATE_COLUMNS) if name.startswith("given_")]
"""State columns that no action changes."""


@dataclass(frozen=True)
class GraphBatch:
    """What stays the same during episodes; units are filled up to one number.

    Attributes:
        nodes: features of units, zeros where there is none.  # [G, N, node columns]
        there: whether there is a unit.  # [G, N]
        edge_index: from unit, to unit; unit i of graph g is number g * N + i.  # [2, L]
        edges: features of edges.  # [L, edge columns]
        given: budget and hardware.  # [G, len(GIVEN)]
    """

    nodes: Tensor
    there: Tensor
    edge_index: Tensor
    edges: Tensor
    given: Tensor


@dataclass(frozen=True)
class StepBatch:
    """What changes from step to step.

    Attributes:
        graph: row of the graph.  # [B]
        cursor: unit to decide about.  # [B]
        stage_start: first unit of its stage.  # [B]
        state: budget, progress, settings, phase.  # [B, S]
        choices: where each action leads.  # [B, A, F]
    """

    graph: Tensor
    cursor: Tensor
    stage_start: Tensor
    state: Tensor
    choices: Tensor


def as_tensors(observation: Observation) -> dict[str, Tensor]:
    """The arrays of an observation as tensors that share their memory.  # {name: [B, length]}."""
    return {name: torch.from_numpy(values) for name, values in observation.items()}


def distinct_graphs(observations: Mapping[str, Tensor]) -> tuple[list[int], Tensor]:
    """Find which rows show the same graph under the same budget and hardware.

    Args:
        observations: arrays of the environment, a row per episode.  # {name: [B, length]}

    Returns:
        First row of every distinct graph, and the graph of every row.  # [G], [B]
    """
    static = [observations[name] for name in ("nodes", "edges", "edge_index")]
    static.append(observations["state"][:, GIVEN].contiguous())
    rows = [values.detach().cpu().numpy() for values in static]
    seen: dict[bytes, int] = {}
    firsts: list[int] = []
    graph = []
    for row in range(len(rows[0])):
        key = b"".join(values[row].tobytes() for values in rows)
        if key not in seen:
            seen[key] = len(firsts)
            firsts.append(row)
        graph.append(seen[key])
    return firsts, torch.tensor(graph, device=static[0].device)


def graphs_of(observations: Mapping[str, Tensor], rows: Sequence[int]) -> GraphBatch:
    """Take the graphs out of some rows of observations, and padding that none of them needs.

    Args:
        observations: arrays of the environment, a row per episode.  # {name: [B, length]}
        rows: whose graphs.  # [G]
    """
    chosen = torch.as_tensor(rows, device=observations["nodes"].device)
    count = len(rows)
    there = observations["node_mask"][chosen] > 0.5  # [G, padded]
    most = int(there.sum(dim=1).max())
    nodes = observations["nodes"][chosen].reshape(count, there.shape[1], len(NODE_COLUMNS))
    edge_there = observations["edge_mask"][chosen] > 0.5
    ends = observations["edge_index"][chosen].reshape(count, 2, -1).round().long()
    ends = ends + most * torch.arange(count, device=chosen.device)[:, None, None]
    edges = observations["edges"][chosen].reshape(count, -1, len(EDGE_COLUMNS))
    return GraphBatch(
        nodes=nodes[:, :most],
        there=there[:, :most],
        edge_index=ends.transpose(0, 1)[:, edge_there],
        edges=edges[edge_there],
        given=observations["state"][chosen][:, GIVEN],
    )


def steps_of(observations: Mapping[str, Tensor], graph: Tensor) -> StepBatch:
    """Take what changes out of observations.

    Args:
        observations: arrays of the environment, a row per episode.  # {name: [B, length]}
        graph: row of the graph of each.  # [B]
    """
    cursor = observations["cursor"].round().long()
    return StepBatch(
        graph=graph,
        cursor=cursor[:, 0],
        stage_start=cursor[:, 1],
        state=observations["state"],
        choices=observations["choices"].reshape(-1, NUM_ACTIONS, len(CHOICE_COLUMNS)),
    )


def decision_numbers(observations: Mapping[str, Tensor], num_units: int) -> Tensor:
    """Decisions so far as numbers, -1 where there is none yet.

    Args:
        observations: arrays of the environment, a row per episode.  # {name: [B, length]}
        num_units: units to look at; the rest is padding.

    Returns:
        Decisions.  # [B, num_units]
    """
    chosen = observations["decisions"]
    chosen = chosen.reshape(len(chosen), -1, NUM_ACTIONS)[:, :num_units]
    highest, action = chosen.max(dim=2)
    return torch.where(highest > 0.5, action, -1)
