"""Where the operators of units stand in a graph, and which of them a training has seen.

Legend: N operators of a unit (its forward, then its backward).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.gnn.op_classes import CLASSES
from remora.cost_models.gnn.op_features import UnitFeatures
from remora.graph.model_graph import Unit

__all__ = ["UNKNOWN", "known_ops", "name_ids", "unit_places"]

UNKNOWN = 0
"""Row of the embedding for names that training did not see."""


def unit_places(unit: Unit) -> NDArray[np.int64]:
    """Return the indices of a unit's operators in the graph.  # [N]."""
    return np.array([*range(*unit.forward), *range(*unit.backward)], dtype=np.int64)


def known_ops(features: UnitFeatures, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which operators training has seen; views cost the same whatever their name.  # [N].

    Args:
        features: of the unit.
        names: base names seen in training.
    """
    seen = frozenset(names)
    by_name = np.array([name in seen for name in features.names], dtype=np.bool_)
    return np.asarray(by_name | (features.classes == CLASSES.index("view")))


def name_ids(names: Sequence[str]) -> dict[str, int]:
    """Return the row of the embedding by base name, from 1 in the order of the names."""
    return {name: row for row, name in enumerate(names, start=UNKNOWN + 1)}
