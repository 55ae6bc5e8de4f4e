"""Memory that nothing can free at the moment at which the backward of a unit begins.

Whatever a schedule does, a unit's own saved tensors are back by then, and the gradients and
activations that the program itself holds are there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.graph.model_graph import GRADIENT, ModelGraph
from remora.schedule.chain import Chain, ChainUnit

__all__ = ["BackwardPoint", "backward_points"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BackwardPoint:
    """Start of one unit's backward, all of the model on one rank.

    Attributes:
        num_bytes: what is there for sure, and what the unit's operators take at least beyond it;
            weights, optimizer and finished gradients not counted.
        later_bytes: the same in a micro-batch whose gradients are added to those of an earlier one.
        present: the storages among it that are there when the backward begins.
    """

    num_bytes: int
    later_bytes: int
    present: frozenset[int]


def backward_points(chain: Chain) -> tuple[BackwardPoint, ...]:
    """Find the points of all units.  # [num_units]."""
    table = _Storages(chain)
    return tuple(table.point(unit) for unit in chain.units)


class _Storages:
    """Lifetimes of the storages of a graph as arrays.  # [num_storages]."""

    def __init__(self, chain: Chain) -> None:
        graph: ModelGraph = chain.graph
        records = graph.storages
        self._created = np.array([s.created for s in records], dtype=np.int64)
        self._dropped = np.array([s.dropped for s in records], dtype=np.int64)
        added = [chain.added_at(index) for index in range(len(records))]
        self._added = np.array(added, dtype=np.int64)
        sizes = [chain.num_bytes(index) for index in range(len(records))]
        self._size = np.array(sizes, dtype=np.int64)
        held = [s.created >= 0 and s.role != GRADIENT for s in records]
        self._held = np.array(held, dtype=np.bool_)
        self._workspace = np.array(chain.costs.op_workspace_bytes, dtype=np.int64)

    def point(self, unit: ChainUnit) -> BackwardPoint:
        """The start of the backward of ``unit``."""
        start = unit.backward[0]
        running = self._held & (self._created < start) & (self._dropped > start)
        released = {saved.storage: saved.released for saved in unit.saved}
        ends = {int(s): int(self._dropped[s]) for s in np.flatnonzero(running)}
        # What both hold goes when the later of them lets go.
        ends |= {s: max(count, ends.get(s, 0)) for s, count in released.items()}
        present = np.array(list(ends), dtype=np.int64)
        level = int(self._size[present].sum())
        counts = list(ends.values())
        return BackwardPoint(
            level + self._rise(unit, present, counts, self._dropped),
            level + self._rise(unit, present, counts, self._added),
            frozenset(ends),
        )

    def _rise(self, unit: ChainUnit, present: IntArray, ends: list[int], dropped: IntArray) -> int:
        """Largest rise of the level while the backward runs, all that can die dying in it."""
        start, end = unit.backward
        count = end - start
        if not count:
            return 0
        change = np.zeros(count + 1, dtype=np.int64)
        made = np.array(unit.created_backward, dtype=np.int64)
        np.add.at(change, self._created[made] - start, self._size[made])
        gone = np.maximum(dropped[made], self._created[made] + 1)
        np.subtract.at(change, np.minimum(gone - start, count), self._size[made])
        freed = np.clip(np.array(ends, dtype=np.int64) - start, 0, count)
        np.subtract.at(change, freed, self._size[present])
        levels = np.cumsum(change[:count]) + self._workspace[start:end]
        return max(0, int(levels.max()))
