"""Which inputs of a group only that group reads: those its checkpoint may move to the host."""

from __future__ import annotations

from remora.graph.model_graph import ACTIVATION, ModelGraph

__all__ = ["StorageKey", "private_input_keys"]

StorageKey = tuple[int, int]
"""(unit that made or last viewed the storage, its bytes): how a running model recognises it."""


def private_input_keys(graph: ModelGraph, start: int, end: int) -> frozenset[StorageKey]:
    """Name the activations made before unit ``start`` that only ``start`` to ``end - 1`` read.

    The unit that makes an activation does not count as its reader. A key that also stands for
    a storage with other readers is left out: offloading that one would free nothing.

    Args:
        graph: of the model.
        start: first unit.
        end: unit after the last.
    """
    first_op = graph.units[start].forward[0]
    readers = _readers(graph)
    viewers = _last_viewers(graph, first_op)
    private: set[StorageKey] = set()
    shared: set[StorageKey] = set()
    for index, storage in enumerate(graph.storages):
        if storage.role != ACTIVATION or not 0 <= storage.created < first_op:
            continue
        reading = readers.get(index, set()) - {graph.ops[storage.created].unit}
        key = (viewers[index], storage.num_bytes)
        if reading and all(start <= unit < end for unit in reading):
            private.add(key)
        elif any(unit >= start for unit in reading):
            shared.add(key)
    return frozenset(private - shared)


def _readers(graph: ModelGraph) -> dict[int, set[int]]:
    """Units whose forward reads each storage or whose backward needs it."""
    found: dict[int, set[int]] = {}
    for op in graph.ops[: graph.num_forward_ops]:
        for tensor in op.inputs:
            found.setdefault(graph.tensors[tensor].storage, set()).add(op.unit)
    for unit in graph.units:
        for saved in unit.saved:
            found.setdefault(graph.storage_of(saved), set()).add(unit.index)
    return found


def _last_viewers(graph: ModelGraph, end_op: int) -> dict[int, int]:
    """Unit of the last operator before ``end_op`` that returned a view of each storage."""
    return {
        graph.tensors[tensor].storage: op.unit for op in graph.ops[:end_op] for tensor in op.outputs
    }
