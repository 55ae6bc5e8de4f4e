"""The observation of the Gymnasium environment: padded, flat boxes of float32.

Legend: N most units, E most edges (both directions), A decisions of a unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from remora.envs.actions import UnitAction
from remora.envs.episode import Episode
from remora.envs.features import (
    CHOICE_FEATURES,
    EDGE_FEATURES,
    FEATURE_LIMIT,
    NODE_FEATURES,
    STATE_FEATURES,
    GraphFeatures,
    choice_features,
    decision_features,
    state_features,
)

__all__ = ["Observation", "ObservationSize", "observation_space", "observe"]

Observation = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ObservationSize:
    """How far observations are padded.

    Attributes:
        max_units: most units of a graph.
        max_edges: most edges of a graph, each direction counted.
    """

    max_units: int = 40
    max_edges: int = 128


def observation_space(size: ObservationSize) -> spaces.Dict:
    """The space of :func:`observe`; every box is one-dimensional, as stable-baselines3 asks."""
    units, edges, actions = size.max_units, size.max_edges, len(UnitAction)
    signed, share = (-FEATURE_LIMIT, FEATURE_LIMIT), (0.0, 1.0)
    boxes = {
        "nodes": (units * len(NODE_FEATURES), signed),
        "node_mask": (units, share),
        "edge_index": (2 * edges, (0.0, float(units - 1))),
        "edges": (edges * len(EDGE_FEATURES), signed),
        "edge_mask": (edges, share),
        "decisions": (units * actions, share),
        "cursor": (1, (0.0, float(units))),
        "state": (len(STATE_FEATURES), signed),
        "choices": (actions * len(CHOICE_FEATURES), signed),
        "action_mask": (actions, share),
    }
    return spaces.Dict(
        {
            name: spaces.Box(low, high, (length,), np.float32)
            for name, (length, (low, high)) in boxes.items()
        }
    )


def observe(episode: Episode, graph: GraphFeatures, size: ObservationSize) -> Observation:
    """Describe the state of an episode.

    Args:
        episode: the state.
        graph: the unit graph of the episode, from ``graph_features``.
        size: how far to pad; the graph must not be larger.

    Returns:
        Arrays by name, flattened and padded with zeros; see ``ScheduleEnv``.
    """
    units, edges = size.max_units, size.max_edges
    num_units, num_edges = len(graph.nodes), len(graph.edges)
    return {
        "nodes": _padded(graph.nodes, units),
        "node_mask": _padded(np.ones(num_units), units),
        "edge_index": np.concatenate([_padded(row, edges) for row in graph.edge_index]),
        "edges": _padded(graph.edges, edges),
        "edge_mask": _padded(np.ones(num_edges), edges),
        "decisions": _padded(decision_features(episode.decisions, num_units), units),
        "cursor": np.array([episode.cursor], dtype=np.float32),
        "state": state_features(episode),
        "choices": choice_features(episode).ravel(),
        "action_mask": episode.mask.astype(np.float32),
    }


def _padded(rows: NDArray[np.generic], length: int) -> NDArray[np.float32]:
    """Flatten rows after filling them up with zeros."""
    padded = np.zeros((length, *rows.shape[1:]), dtype=np.float32)
    padded[: len(rows)] = rows
    return padded.ravel()
