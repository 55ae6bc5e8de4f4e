"""The two halves of a unit's backward: gradients of its inputs, and gradients of its weights.

Zero-bubble pipelines (Qi et al. 2023, arXiv 2401.10241) run them apart, so that the gradients that
an earlier stage waits for come first.
"""

from __future__ import annotations

from dataclasses import dataclass

from remora.graph.model_graph import GRADIENT, ModelGraph, Unit

__all__ = ["BackwardSplit", "split_backward"]


@dataclass(frozen=True, slots=True)
class BackwardSplit:
    """Operators of a unit's backward by the half that runs them.

    Attributes:
        input_ops: what the gradients of the unit's inputs need, ascending.
        weight_ops: the rest, ascending.
        carried: storages made in the backward, here or in a later unit, before the second half,
            which it reads.
    """

    input_ops: tuple[int, ...]
    weight_ops: tuple[int, ...]
    carried: tuple[int, ...]


def split_backward(graph: ModelGraph, unit: Unit) -> BackwardSplit:
    """Assign every backward operator of ``unit`` to a half.

    An operator belongs to the first half if something that other units read depends on it.
    """
    wanted = _leaving(graph, unit)
    first: set[int] = set()
    for index in range(unit.backward[1] - 1, unit.backward[0] - 1, -1):
        op = graph.ops[index]
        touched = {graph.tensors[t].storage for t in op.outputs} | set(op.mutates)
        if touched & wanted:
            first.add(index)
            wanted |= {graph.tensors[t].storage for t in op.inputs}
    second = [index for index in range(*unit.backward) if index not in first]
    made_second = {s for i in second for s in _made_by(graph, i)}
    read = {graph.tensors[t].storage for i in second for t in graph.ops[i].inputs}
    carried = sorted(
        s
        for s in read - made_second
        if graph.storages[s].created >= graph.num_forward_ops and graph.storages[s].role != GRADIENT
    )
    return BackwardSplit(tuple(sorted(first)), tuple(second), tuple(carried))


def _leaving(graph: ModelGraph, unit: Unit) -> set[int]:
    """Storages, no gradients of parameters, that the unit's backward leaves for other units."""
    end = unit.backward[1]
    touched = {s for i in range(*unit.backward) for s in _touched_by(graph, i)}
    return {
        s
        for s in touched
        if graph.storages[s].role != GRADIENT
        and graph.storages[s].created >= graph.num_forward_ops
        and graph.storages[s].dropped > end
    }


def _touched_by(graph: ModelGraph, index: int) -> set[int]:
    op = graph.ops[index]
    return {graph.tensors[t].storage for t in op.outputs} | set(op.mutates)


def _made_by(graph: ModelGraph, index: int) -> set[int]:
    return {s for s in _touched_by(graph, index) if graph.storages[s].created == index}
