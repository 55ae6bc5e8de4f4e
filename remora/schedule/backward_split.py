"""The two halves of a unit's backward: gradients of its inputs, and gradients of its weights.

Zero-bubble pipelines (Qi et al. 2023, arXiv 2401.10241) run them apart, so that the gradients that
an earlier stage waits for come first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from remora.graph.model_graph import GRADIENT, ModelGraph, Unit

__all__ = ["BackwardSplit", "Half", "split_backward"]


@dataclass(frozen=True, slots=True)
class Half:
    """What one half runs.

    Attributes:
        ops: backward operators, ascending.
        shares: part of each operator's time that falls into this half: one that makes both kinds
            of gradients runs in both halves, for one kind each time.
        absent: storages that its operators make in the other half only.
    """

    ops: tuple[int, ...]
    shares: tuple[float, ...]
    absent: frozenset[int]


@dataclass(frozen=True, slots=True)
class BackwardSplit:
    """The halves of a unit's backward.

    Attributes:
        inputs: makes what other units wait for.
        weights: makes the gradients of parameters.
        carried: storages made in the backward, here or in a later unit, before the second half,
            which reads them.
    """

    inputs: Half
    weights: Half
    carried: tuple[int, ...]


def split_backward(
    graph: ModelGraph, unit: Unit, partial_gradients: Collection[int] = ()
) -> BackwardSplit:
    """Assign every backward operator of ``unit`` to a half.

    An operator belongs to the first half if something that other units read depends on it.

    Args:
        graph: the traced step.
        unit: one of its units.
        partial_gradients: what other units read to add it to the gradient of a shared weight.
    """

    def of_weight(storage: int) -> bool:
        return graph.storages[storage].role == GRADIENT or storage in partial_gradients

    touched = {index: _touched_by(graph, index) for index in range(*unit.backward)}
    made = {i: {s for s in found if graph.storages[s].created == i} for i, found in touched.items()}
    first = _input_ops(graph, unit, touched, of_weight)
    both = {i for i in first if any(map(of_weight, made[i]))}
    second = [i for i in touched if i not in first or i in both]
    gradients = frozenset(s for i in both for s in made[i] if of_weight(s))
    made_first = frozenset(s for i in first for s in made[i]) - gradients
    made_second = {s for i in second for s in made[i]} - made_first
    read = {graph.tensors[t].storage for i in second for t in graph.ops[i].inputs}
    carried = sorted(
        s
        for s in read - made_second
        if graph.storages[s].created >= graph.num_forward_ops and not of_weight(s)
    )
    return BackwardSplit(
        inputs=_half(sorted(first), both, gradients),
        weights=_half(second, both, made_first),
        carried=tuple(carried),
    )


def _input_ops(
    graph: ModelGraph,
    unit: Unit,
    touched: Mapping[int, set[int]],
    of_weight: Callable[[int], bool],
) -> set[int]:
    """Operators that something depends on that the unit's backward leaves for other units."""
    wanted = {
        s
        for s in set().union(*touched.values())
        if graph.storages[s].created >= graph.num_forward_ops
        and graph.storages[s].dropped > unit.backward[1]
        and not of_weight(s)
    }
    found: set[int] = set()
    for index in sorted(touched, reverse=True):
        if not wanted.isdisjoint(touched[index]):
            found.add(index)
            wanted.update([graph.tensors[t].storage for t in graph.ops[index].inputs])
    return found


def _half(ops: Iterable[int], both: set[int], absent: frozenset[int]) -> Half:
    chosen = tuple(ops)
    return Half(chosen, tuple(0.5 if op in both else 1.0 for op in chosen), absent)


def _touched_by(graph: ModelGraph, index: int) -> set[int]:
    op = graph.ops[index]
    return {*[graph.tensors[t].storage for t in op.outputs], *op.mutates}
