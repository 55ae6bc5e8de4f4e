"""What an operator is called with: equal signatures mean equal work on equal layouts."""

from __future__ import annotations

import hashlib
import json

from remora.graph.model_graph import ModelGraph, Op, Spec

__all__ = ["op_signature"]


def op_signature(graph: ModelGraph, op: Op) -> str:
    """Return the operator's name with a hash of its arguments.

    Tensors count by shape, stride, offset and dtype, and by which of them share a storage;
    numbers, lists and names count by value.

    Args:
        graph: the graph that ``op`` belongs to.
        op: one of its operators.
    """
    storages: dict[int, int] = {}
    args = [_layout(graph, spec, storages) for spec in op.args]
    kwargs = [[name, _layout(graph, spec, storages)] for name, spec in op.kwargs]
    text = json.dumps([args, kwargs])
    return f"{op.name}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _layout(graph: ModelGraph, spec: Spec, storages: dict[int, int]) -> Spec:
    """Replace tensor indices by layouts; storages are numbered in order of appearance."""
    if not isinstance(spec, list | tuple):
        return spec
    tag, value = spec
    if tag == "tensor":
        view = graph.tensors[value]
        number = storages.setdefault(view.storage, len(storages))
        return ["tensor", view.shape, view.stride, view.offset, view.dtype, number]
    if tag == "list":
        return ["list", [_layout(graph, item, storages) for item in value]]
    return [tag, value]
