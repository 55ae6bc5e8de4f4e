"""Observations of the joint environment: padded, flat boxes of float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from remora.envs.actions import NUM_ACTIONS
from remora.envs.arrays import CHOICE_COLUMNS, STATE_COLUMNS
from remora.envs.graphs import EDGE_COLUMNS, NODE_COLUMNS, UnitGraph
from remora.envs.telling import FEATURE_LIMIT

__all__ = ["JointSize", "Observation", "observation_space", "static_arrays"]

Observation = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class JointSize:
    """How far observations are padded.

    Attributes:
        max_units: most units of a graph.
        max_edges: most edges of a graph, each direction counted.
    """

    max_units: int = 64
    max_edges: int = 256


def observation_space(size: JointSize) -> spaces.Dict:
    """The space of one episode; every box is one-dimensional, as stable-baselines3 asks."""
    units, edges = size.max_units, size.max_edges
    signed, share = (-FEATURE_LIMIT, FEATURE_LIMIT), (0.0, 1.0)
    boxes = {
        "nodes": (units * len(NODE_COLUMNS), signed),
        "node_mask": (units, share),
        "edge_index": (2 * edges, (0.0, float(units - 1))),
        "edges": (edges * len(EDGE_COLUMNS), signed),
        "edge_mask": (edges, share),
        "decisions": (units * NUM_ACTIONS, share),
        "cursor": (2, (0.0, float(units))),
        "state": (len(STATE_COLUMNS), signed),
        "choices": (NUM_ACTIONS * len(CHOICE_COLUMNS), signed),
        "action_mask": (NUM_ACTIONS, share),
    }
    return spaces.Dict(
        {
            name: spaces.Box(low, high, (length,), np.float32)
            for name, (length, (low, high)) in boxes.items()
        }
    )


def static_arrays(graph: UnitGraph, size: JointSize) -> Observation:
    """What stays the same during an episode, flattened and padded with zeros."""
    units, edges = size.max_units, size.max_edges
    return {
        "nodes": _padded(graph.nodes, units),
        "node_mask": _padded(np.ones(len(graph.nodes)), units),
        "edge_index": np.concatenate([_padded(row, edges) for row in graph.edge_index]),
        "edges": _padded(graph.edges, edges),
        "edge_mask": _padded(np.ones(len(graph.edges)), edges),
    }


def _padded(rows: NDArray[np.generic], length: int) -> NDArray[np.float32]:
    """Flatten rows after filling them up with zeros."""
    padded = np.zeros((length, *rows.shape[1:]), dtype=np.float32)
    padded[: len(rows)] = rows
    return padded.ravel()
