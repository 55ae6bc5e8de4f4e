"""Content hash of a unit: equal for units that run the same operators on the same shapes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch

from remora.graph.model_graph import ModelGraph, Op, SavedTensor, Spec


def dtype_bytes(name: str) -> int:
    """Bytes of one element of the dtype called ``name``, for example ``float32``."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype.itemsize


def unit_kind(
    graph: ModelGraph,
    forward: tuple[int, int],
    backward: tuple[int, int],
    saved: Sequence[SavedTensor],
) -> str:
    """Hash operators, arguments, layouts, lifetimes and saved tensors of one unit.

    Storages are numbered by first use inside the unit and operators from its start, so that equal
    blocks of one model share a kind wherever they stand.
    """
    canonical = _Canonical(graph, forward, backward)
    content = [
        [canonical.op(graph.ops[i]) for i in range(*forward)],
        [canonical.op(graph.ops[i]) for i in range(*backward)],
        [
            [s.name, canonical.tensor(s.tensor), canonical.place(s.op), canonical.place(s.released)]
            for s in saved
        ],
    ]
    text = json.dumps(content)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Canonical:
    """Numbers storages and operators relative to one unit."""

    def __init__(
        self, graph: ModelGraph, forward: tuple[int, int], backward: tuple[int, int]
    ) -> None:
        self._graph = graph
        self._forward = forward
        self._backward = backward
        self._number: dict[int, int] = {}

    def op(self, op: Op) -> Spec:
        args = [self._spec(arg) for arg in op.args]
        kwargs = [[key, self._spec(value)] for key, value in op.kwargs]
        return [op.name, args, kwargs, [self.tensor(t) for t in op.outputs]]

    def tensor(self, index: int) -> Spec:
        view = self._graph.tensors[index]
        storage = self._graph.storages[view.storage]
        known = view.storage in self._number
        number = self._number.setdefault(view.storage, len(self._number))
        described = [number, view.shape, view.stride, view.offset, view.dtype]
        if known:
            return described
        born = self.place(storage.created)
        return [*described, storage.num_bytes, storage.role, born, self.place(storage.dropped)]

    def place(self, op: int) -> Spec:
        """Position of an operator relative to the unit, or on which side of it."""
        if op < self._forward[0]:
            return "before"
        if op <= self._forward[1]:
            return op - self._forward[0]
        if op < self._backward[0]:
            return "between"
        if op <= self._backward[1]:
            return ["backward", op - self._backward[0]]
        return "after"

    def _spec(self, value: Spec) -> Spec:
        if not isinstance(value, list):
            return value
        if value[0] == "tensor":
            return ["tensor", self.tensor(value[1])]
        if value[0] == "list":
            return ["list", [self._spec(item) for item in value[1]]]
        return value
