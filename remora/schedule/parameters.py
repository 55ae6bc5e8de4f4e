"""Which weights, buffers and inputs belong to which units, and what their gradients take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from remora.graph.kinds import dtype_bytes
from remora.graph.model_graph import BUFFER, GRADIENT, INPUT, PARAMETER, ModelGraph

__all__ = ["StaticStorage", "StaticStorages"]


@dataclass(frozen=True, slots=True)
class StaticStorage:
    """A weight, buffer or input.

    Attributes:
        storage: index into the graph.
        role: parameter, buffer or input.
        num_bytes: its size.
        gradient_bytes: size of its gradient; 0 if it gets none.
        num_elements: number of values, for weights.
        gradient_unit: unit whose backward makes the gradient; -1 if it gets none.
        units: units whose forward or backward reads it; the first unit if none does.
    """

    storage: int
    role: str
    num_bytes: int
    gradient_bytes: int
    num_elements: int
    gradient_unit: int
    units: frozenset[int]


class StaticStorages:
    """All storages of a graph that exist before the step.

    Args:
        graph: the traced step.
        granularity_bytes: the allocator rounds every gradient up to a multiple of it.
    """

    def __init__(self, graph: ModelGraph, granularity_bytes: int) -> None:
        readers = _readers(graph)
        gradients = {s.name: s for s in graph.storages if s.role == GRADIENT}
        itemsize = _itemsizes(graph)
        self.all = tuple(
            StaticStorage(
                storage=index,
                role=record.role,
                num_bytes=record.num_bytes,
                gradient_bytes=_rounded_up(gradients[record.name].num_bytes, granularity_bytes)
                if trained
                else 0,
                num_elements=record.num_bytes // itemsize.get(index, 4),
                gradient_unit=graph.ops[gradients[record.name].created].unit if trained else -1,
                units=frozenset(readers.get(index, {0})),
            )
            for index, record in enumerate(graph.storages)
            for trained in [record.role == PARAMETER and record.name in gradients]
            if record.role in (PARAMETER, BUFFER, INPUT) and record.created < 0
        )
        self._by_unit: dict[int, list[StaticStorage]] = {}
        for entry in self.all:
            for unit in entry.units:
                self._by_unit.setdefault(unit, []).append(entry)

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients of all weights."""
        return sum(entry.gradient_bytes for entry in self.all)

    def of_units(self, units: Iterable[int]) -> tuple[StaticStorage, ...]:
        """Those that some of ``units`` read, each once, in the graph's order."""
        found = {e.storage: e for unit in units for e in self._by_unit.get(unit, ())}
        return tuple(found[storage] for storage in sorted(found))

    def weights_of(self, units: Iterable[int]) -> tuple[StaticStorage, ...]:
        """Parameters that some of ``units`` read."""
        return tuple(e for e in self.of_units(units) if e.role == PARAMETER)


def _rounded_up(num_bytes: int, granularity_bytes: int) -> int:
    return -(-num_bytes // granularity_bytes) * granularity_bytes


def _readers(graph: ModelGraph) -> dict[int, set[int]]:
    readers: dict[int, set[int]] = {}
    for op in graph.ops:
        for tensor in op.inputs:
            readers.setdefault(graph.tensors[tensor].storage, set()).add(op.unit)
    return readers


def _itemsizes(graph: ModelGraph) -> dict[int, int]:
    return {view.storage: dtype_bytes(view.dtype) for view in graph.tensors}
