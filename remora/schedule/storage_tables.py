"""Where storages of a graph are made, read, added to others and dropped."""

from __future__ import annotations

from collections.abc import Mapping

from remora.graph.model_graph import GRADIENT, ModelGraph

__all__ = ["added_at", "creator_units", "dropped_at", "made_by_op", "readers"]


def made_by_op(graph: ModelGraph) -> tuple[tuple[int, ...], ...]:
    """Return the storages that each operator makes, by operator."""
    made: list[list[int]] = [[] for _ in graph.ops]
    for index, storage in enumerate(graph.storages):
        if storage.created >= 0:
            made[storage.created].append(index)
    return tuple(map(tuple, made))


def added_at(graph: ModelGraph) -> dict[int, int]:
    """Return when a gradient is added to an earlier micro-batch's and goes, in operators run."""
    added: dict[int, int] = {}
    gradients = {n for n, storage in enumerate(graph.storages) if storage.role == GRADIENT}
    touched = {n for n, tensor in enumerate(graph.tensors) if tensor.storage in gradients}
    for index, op in enumerate(graph.ops):
        for tensor in touched.intersection(op.inputs + op.outputs):
            added[graph.tensors[tensor].storage] = index + 1
    return added


def dropped_at(graph: ModelGraph) -> dict[int, list[int]]:
    """Return the storages that the program lets go of, by operator count."""
    dropped: dict[int, list[int]] = {}
    for index, storage in enumerate(graph.storages):
        if storage.created >= 0:
            dropped.setdefault(storage.dropped, []).append(index)
    return dropped


def creator_units(graph: ModelGraph) -> dict[int, int]:
    """Return the unit that makes each forward activation, by storage."""
    return {
        index: graph.ops[storage.created].unit
        for index, storage in enumerate(graph.storages)
        if 0 <= storage.created < graph.num_forward_ops
    }


def readers(graph: ModelGraph, creator_unit: Mapping[int, int]) -> dict[int, frozenset[int]]:
    """Return units other than its maker that read or save a forward activation, by storage."""
    found: dict[int, set[int]] = {storage: set() for storage in creator_unit}
    for index in range(graph.num_forward_ops):
        op = graph.ops[index]
        for tensor in op.inputs:
            storage = graph.tensors[tensor].storage
            if storage in found and creator_unit[storage] != op.unit:
                found[storage].add(op.unit)
    for unit in graph.units:
        for saved in unit.saved:
            storage = graph.storage_of(saved)
            if storage in found and creator_unit[storage] != unit.index:
                found[storage].add(unit.index)
    return {storage: frozenset(units) for storage, units in found.items()}
