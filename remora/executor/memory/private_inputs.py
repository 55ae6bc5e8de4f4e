"""Which inputs of a group only that group needs after it began: those its checkpoint offloads."""

from __future__ import annotations

from remora.graph.model_graph import ACTIVATION, ModelGraph

__all__ = ["StorageKey", "private_input_keys"]

StorageKey = tuple[int, int]
"""(unit that made or last changed the storage, its bytes): how a running model recognises it."""


def private_input_keys(graph: ModelGraph, start: int, end: int) -> frozenset[StorageKey]:
    """Name the activations that enter units ``start`` to ``end - 1`` and have no reader after.

    A key that also stands for a storage with other readers is left out: offloading that one
    would free nothing.

    Args:
        graph: of the model.
        start: first unit.
        end: unit after the last.
    """
    first_op = graph.units[start].forward[0]
    inside = _read_by(graph, range(start, end))
    outside = _read_by(graph, range(end, len(graph.units))) | _saved_by(graph, range(start))
    entering = [
        index
        for index, storage in enumerate(graph.storages)
        if storage.role == ACTIVATION and 0 <= storage.created < first_op
    ]
    writers = _last_writers(graph, first_op)
    private, shared = set(), set()
    for index in entering:
        key = (writers[index], graph.storages[index].num_bytes)
        if index in outside:
            shared.add(key)
        elif index in inside:
            private.add(key)
    return frozenset(private - shared)


def _read_by(graph: ModelGraph, units: range) -> set[int]:
    """Storages that the forward of the units reads or their backward needs."""
    found = _saved_by(graph, units)
    for unit in units:
        for _, op in graph.forward_ops(graph.units[unit]):
            found.update(graph.tensors[tensor].storage for tensor in op.inputs)
    return found


def _saved_by(graph: ModelGraph, units: range) -> set[int]:
    return {graph.storage_of(saved) for unit in units for saved in graph.units[unit].saved}


def _last_writers(graph: ModelGraph, end_op: int) -> dict[int, int]:
    """Unit of the last operator before ``end_op`` that returned a view of each storage."""
    return {
        graph.tensors[tensor].storage: op.unit for op in graph.ops[:end_op] for tensor in op.outputs
    }
