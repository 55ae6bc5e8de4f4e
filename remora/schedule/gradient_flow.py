"""Which activations get a gradient, and which parts a shared weight's gradient is summed from."""

from __future__ import annotations

from collections.abc import Mapping

from remora.graph.model_graph import GRADIENT, PARAMETER, ModelGraph

__all__ = ["differentiable_activations", "partial_gradients"]

_SUMS = frozenset({"aten.add.Tensor", "aten.add_.Tensor"})


def differentiable_activations(graph: ModelGraph) -> frozenset[int]:
    """Floating activations of the forward that are made, directly or not, from a trained weight."""
    trained = {s.name for s in graph.storages if s.role == GRADIENT}
    found = {
        index
        for index, storage in enumerate(graph.storages)
        if storage.role == PARAMETER and storage.name in trained
    }
    weights = frozenset(found)
    for op in graph.ops[: graph.num_forward_ops]:
        if any(graph.tensors[tensor].storage in found for tensor in op.inputs):
            views = (graph.tensors[tensor] for tensor in op.outputs)
            found |= {view.storage for view in views if "float" in view.dtype}
    return frozenset(found - weights)


def partial_gradients(graph: ModelGraph) -> Mapping[int, int]:
    """Parts of the gradient of a weight that several units read, and the unit that sums each.

    Autograd adds what it got so far to what a unit made: the sum is either the gradient or the
    part that the next unit adds to.
    """
    wanted = [index for index, storage in enumerate(graph.storages) if storage.role == GRADIENT]
    found: dict[int, int] = {}
    while wanted:
        result = graph.storages[wanted.pop()]
        op = graph.ops[result.created]
        if op.name not in _SUMS:
            continue
        for part in {graph.tensors[tensor].storage for tensor in op.inputs}:
            record = graph.storages[part]
            made_in_backward = record.created >= graph.num_forward_ops
            if made_in_backward and record.num_bytes == result.num_bytes:
                wanted.append(part)
                if graph.ops[record.created].unit != op.unit:
                    found[part] = op.unit
    return found
