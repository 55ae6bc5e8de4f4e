"""Gradients of which earlier units read a part only.

The gradient of a concatenation is one storage, of which every input gets a view. Where a view is
all that an earlier stage gets, PyTorch hands it a copy of that view, and the storage goes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from remora.graph.model_graph import GRADIENT, ModelGraph

__all__ = ["HandedGradient", "handed_gradients"]


@dataclass(frozen=True, slots=True)
class HandedGradient:
    """A storage that a unit's backward leaves to units before it.

    Attributes:
        next_reader: the first of them to run.
        num_bytes: of what they read.
    """

    next_reader: int
    num_bytes: int


def handed_gradients(graph: ModelGraph) -> dict[int, HandedGradient]:
    """Find the gradients of which earlier units read a part only, by storage."""
    parts: dict[int, set[tuple[int, tuple[int, ...]]]] = {}
    readers: dict[int, int] = {}
    for op in graph.ops[graph.num_forward_ops :]:
        for tensor in op.inputs:
            view = graph.tensors[tensor]
            record = graph.storages[view.storage]
            if record.created < graph.num_forward_ops or record.role == GRADIENT:
                continue
            if op.unit < graph.ops[record.created].unit:
                parts.setdefault(view.storage, set()).add((view.offset, view.shape))
                readers[view.storage] = max(readers.get(view.storage, -1), op.unit)
    whole: dict[int, int] = {}
    for view in graph.tensors:
        if view.storage in parts:
            whole[view.storage] = max(whole.get(view.storage, 0), math.prod(view.shape))
    found = {}
    for storage, views in parts.items():
        read = sum(math.prod(shape) for _, shape in views)
        if read < whole[storage]:
            num_bytes = graph.storages[storage].num_bytes * read // whole[storage]
            found[storage] = HandedGradient(readers[storage], num_bytes)
    return found
