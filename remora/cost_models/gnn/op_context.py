"""What an operator meets when its turn comes: caches, the allocator, and who made its inputs.

Legend: N operators of a unit (its forward, then its backward), E edges between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from remora.graph.model_graph import PARAMETER, STATIC_ROLES, ModelGraph, Op, Unit

__all__ = [
    "CONTEXT_FEATURES",
    "EDGE_TYPES",
    "UnitContext",
    "storage_ends",
    "unit_context",
]

EDGE_TYPES = ("made", "read_by", "before", "after")
"""Kinds of edges: from who wrote a storage to who uses it, back, and along the order of running."""

CONTEXT_FEATURES = (
    "backward",
    "in_place",
    "random",
    "first_of_phase",
    "last_of_phase",
    "log_inputs",
    "log_outputs",
    "log_arguments",
    "log_allocated_bytes",
    "log_fresh_bytes",
    "log_freed_bytes",
    "log_freed_storages",
    "derived_views",
    "log_reuse_distance",
    "log_mean_reuse_distance",
    "log_result_reuse_distance",
    "reads_parameter",
    "reads_previous_result",
    "log_unit_bytes",
    "share_of_largest",
)


@dataclass(frozen=True, slots=True)
class UnitContext:
    """Context of every operator of one unit.

    Attributes:
        features: # [N, len(CONTEXT_FEATURES)]
        edges: (source, target, index into :data:`EDGE_TYPES`).  # [E]
    """

    features: list[list[float]]
    edges: list[tuple[int, int, int]]


def storage_ends(graph: ModelGraph) -> list[int]:
    """Return the operator count at which the step frees every storage.  # [num_storages]."""
    ends = [storage.dropped for storage in graph.storages]
    for unit in graph.units:
        for saved in unit.saved:
            storage = graph.storage_of(saved)
            ends[storage] = max(ends[storage], saved.released + 1)
    return ends


def unit_context(graph: ModelGraph, unit: Unit, ends: Sequence[int]) -> UnitContext:
    """Walk through a unit's forward and backward and note what every operator meets.

    Args:
        graph: the traced step.
        unit: one of its units.
        ends: of :func:`storage_ends`.
    """
    walk = _Walk(graph, unit, ends)
    return UnitContext([walk.step(order) for order in range(len(walk.indices))], walk.edges())


@dataclass(slots=True)
class _Pool:
    """What the allocator has got back and can give again without asking the system for pages."""

    free_bytes: int = 0

    def take(self, num_bytes: int) -> int:
        """Allocate; return the bytes that had to come fresh from the system."""
        fresh = max(0, num_bytes - self.free_bytes)
        self.free_bytes = max(0, self.free_bytes - num_bytes)
        return fresh


@dataclass
class _Walk:
    """State of a walk: which storages are in the caches, which tensors exist."""

    graph: ModelGraph
    unit: Unit
    ends: Sequence[int]
    indices: list[int] = field(init=False)
    num_forward: int = field(init=False)
    unit_bytes: int = field(init=False)
    largest_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.indices = [*range(*self.unit.forward), *range(*self.unit.backward)]
        self.num_forward = self.unit.forward[1] - self.unit.forward[0]
        touched = {s for index in self.indices for s in self._storages(index)}
        sizes = [self.graph.storages[s].num_bytes for s in touched]
        self.unit_bytes, self.largest_bytes = sum(sizes), max((*sizes, 1))
        self.frees = self._frees()
        self.pool = _Pool()
        self.passed_bytes = 0
        self.last_touch: dict[int, int] = {}
        self.known: dict[int, set[int]] = {}
        self.writer: dict[int, int] = {}
        self.flow: list[tuple[int, int]] = []

    def step(self, order: int) -> list[float]:
        """Return the features of the operator and move behind it."""
        index = self.indices[order]
        op = self.graph.ops[index]
        if order == self.num_forward:
            # Other units run in between.
            self.passed_bytes += self.unit_bytes
        derived = self._derived(op)
        distances = self._distances(op.inputs)
        results = self._distances(op.outputs)
        from_previous = self._link(order, op)
        allocated = sum(self.graph.storages[s].num_bytes for s in self._created(index))
        fresh = self.pool.take(allocated)
        freed = self.frees[order]
        freed_bytes = sum(self.graph.storages[s].num_bytes for s in freed)
        self.pool.free_bytes += freed_bytes
        self._touch(op)
        roles = {self.graph.storages[self.graph.tensors[t].storage].role for t in op.inputs}
        return [
            float(order >= self.num_forward),
            float(bool(op.mutates)),
            float(op.random),
            float(order in (0, self.num_forward)),
            float(order in (self.num_forward - 1, len(self.indices) - 1)),
            math.log1p(len(op.inputs)),
            math.log1p(len(op.outputs)),
            math.log1p(len(op.args) + len(op.kwargs)),
            math.log1p(allocated),
            math.log1p(fresh),
            math.log1p(freed_bytes),
            math.log1p(len(freed)),
            float(derived),
            math.log1p(_of_largest(distances)),
            math.log1p(_weighted_mean(distances)),
            math.log1p(_of_largest(results)),
            float(PARAMETER in roles),
            float(from_previous),
            math.log1p(self.unit_bytes),
            allocated / self.largest_bytes,
        ]

    def edges(self) -> list[tuple[int, int, int]]:
        """Return all edges, with their types."""
        found = [(source, target, 0) for source, target in self.flow]
        found += [(target, source, 1) for source, target in self.flow]
        neighbours = [(i, i + 1) for i in range(len(self.indices) - 1)]
        found += [(source, target, 2) for source, target in neighbours]
        return found + [(target, source, 3) for source, target in neighbours]

    def _storages(self, index: int) -> set[int]:
        op = self.graph.ops[index]
        return {self.graph.tensors[t].storage for t in (*op.inputs, *op.outputs)}

    def _created(self, index: int) -> set[int]:
        storages = {self.graph.tensors[t].storage for t in self.graph.ops[index].outputs}
        return {s for s in storages if self.graph.storages[s].created == index}

    def _frees(self) -> list[list[int]]:
        """Storages that are freed behind every operator.  # [N, .]."""
        position = {index: order for order, index in enumerate(self.indices)}
        last_use = {
            s: order for order, index in enumerate(self.indices) for s in self._storages(index)
        }
        frees: list[list[int]] = [[] for _ in self.indices]
        for storage, used in last_use.items():
            if self.graph.storages[storage].role in STATIC_ROLES:
                continue
            order = max(used, position.get(self.ends[storage] - 1, -1))
            if self.ends[storage] - 1 <= self.indices[-1]:
                frees[order].append(storage)
        return frees

    def _derived(self, op: Op) -> int:
        """Count inputs that are views which no operator of the unit returned."""
        count = 0
        for tensor in op.inputs:
            views = self.known.get(self.graph.tensors[tensor].storage)
            if views is not None and tensor not in views:
                views.add(tensor)
                count += 1
        for tensor in op.outputs:
            self.known.setdefault(self.graph.tensors[tensor].storage, set()).add(tensor)
        return count

    def _distances(self, tensors: Sequence[int]) -> list[tuple[int, int]]:
        """Bytes of every storage, and bytes that passed since it was last touched."""
        found = []
        for storage in {self.graph.tensors[t].storage for t in tensors}:
            touched = self.last_touch.get(storage)
            distance = self.unit_bytes if touched is None else self.passed_bytes - touched
            found.append((self.graph.storages[storage].num_bytes, distance))
        return found

    def _link(self, order: int, op: Op) -> bool:
        """Add edges from who wrote the inputs; return whether the previous operator did."""
        sources = {self.writer.get(self.graph.tensors[t].storage, -1) for t in op.inputs} - {-1}
        self.flow += [(source, order) for source in sorted(sources)]
        for tensor in op.outputs:
            self.writer[self.graph.tensors[tensor].storage] = order
        return order - 1 in sources

    def _touch(self, op: Op) -> None:
        if op.view:
            return
        self.passed_bytes += op.bytes_read + op.bytes_written
        for tensor in (*op.inputs, *op.outputs):
            self.last_touch[self.graph.tensors[tensor].storage] = self.passed_bytes


def _of_largest(distances: Sequence[tuple[int, int]]) -> int:
    return max(distances, default=(0, 0))[1]


def _weighted_mean(distances: Sequence[tuple[int, int]]) -> float:
    total = sum(num_bytes for num_bytes, _ in distances)
    return sum(n * distance for n, distance in distances) / total if total else 0.0
