"""A unit's operators as calls on numbered tensors, freed where the real step frees them."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from remora.executor.replay.operands import (
    UnsupportedArgument,
    find_operator,
    make_storage,
    split_arguments,
    tensor_leaves,
    view_of,
)
from remora.graph.model_graph import STATIC_ROLES, ModelGraph, Op, TensorView, Unit

__all__ = [
    "Call",
    "External",
    "Tensors",
    "UnitPlan",
    "compile_unit",
    "execute",
    "make_external",
    "stand_in",
    "storage_ends",
]

Tensors = list[torch.Tensor | None]


@dataclass(slots=True)
class Call:
    """One operator, ready to run.

    Attributes:
        op: index of the operator in the graph.
        function: the operator, or what stands in for one that cannot run.
        args, kwargs: its arguments, with holes where tensors belong.
        holes: (container, key, slot): where the tensor of a slot goes.
        derived: (slot, slot of a tensor on the same storage, view): views to take beforehand.
        outputs: slots of its results.
        releases: slots whose storage the real step no longer needs afterwards.
        measurable: False if a stand-in makes the results.
    """

    op: int
    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    holes: tuple[tuple[Any, Any, int], ...]
    derived: tuple[tuple[int, int, TensorView], ...]
    outputs: tuple[int, ...]
    releases: tuple[int, ...] = ()
    measurable: bool = True


@dataclass(frozen=True, slots=True)
class External:
    """A storage that exists before the unit runs: its first view's dtype, and all views."""

    storage: int
    dtype: str
    views: tuple[tuple[int, TensorView], ...]


@dataclass
class UnitPlan:
    """Forward and backward of one unit as calls.

    Attributes:
        forward, backward: calls in order.
        externals: storages to make before every run (activations and gradients).
        statics: storages to make once (parameters, buffers, inputs).
        releases_between: slots to free between forward and backward.
        num_slots: number of distinct tensors.
        num_bytes: bytes of all storages together, an upper bound of what a run takes.
        notes: one sentence per operator that cannot run.
    """

    forward: list[Call]
    backward: list[Call]
    externals: tuple[External, ...]
    statics: tuple[External, ...]
    releases_between: tuple[int, ...]
    num_slots: int
    num_bytes: int
    notes: list[str] = field(default_factory=list)


def storage_ends(graph: ModelGraph) -> list[int]:
    """Return, for every storage, the operator index before which the real step frees it.

    # [num_storages]
    """
    ends = [storage.dropped for storage in graph.storages]
    for unit in graph.units:
        for saved in unit.saved:
            storage = graph.storage_of(saved)
            ends[storage] = max(ends[storage], saved.released + 1)
    return ends


def compile_unit(
    graph: ModelGraph, unit: Unit, ends: Sequence[int], device: torch.device
) -> UnitPlan:
    """Compile the forward and backward operators of ``unit``.

    Args:
        graph: the traced step.
        unit: one of its units.
        ends: :func:`storage_ends` of the graph.
        device: where the calls will run.
    """
    return _Compiler(graph, unit, ends, device).compile()


def execute(calls: Iterable[Call], tensors: Tensors, mark: Callable[[], object] | None) -> None:
    """Run calls in order.

    Args:
        calls: what to run.
        tensors: tensor by slot; changed.  # [num_slots]
        mark: called after every call, for timing.
    """
    for call in calls:
        for slot, source, view in call.derived:
            tensors[slot] = view_of(_present(tensors[source]), view)
        for container, key, slot in call.holes:
            container[key] = tensors[slot]
        _store(tensors, call.outputs, call.function(*call.args, **call.kwargs))
        # A filled hole would keep its tensor alive.
        for container, key, _ in call.holes:
            container[key] = None
        for slot in call.releases:
            tensors[slot] = None
        if mark is not None:
            mark()


def _store(tensors: Tensors, slots: tuple[int, ...], result: Any) -> None:
    """Put results into slots; a function of its own, so that no name outlives it."""
    if isinstance(result, torch.Tensor):
        tensors[slots[0]] = result
        return
    found = list(tensor_leaves(result))
    # A gradient that nobody asked for has a tensor in the trace and none on a device, which
    # leaves its place in the result empty.
    for slot, tensor in zip(slots, found if len(found) == len(slots) else result, strict=True):
        tensors[slot] = tensor


def make_external(
    graph: ModelGraph, external: External, tensors: Tensors, device: torch.device
) -> None:
    """Fill the slots of an external storage with made-up data."""
    storage = graph.storages[external.storage]
    base = make_storage(storage.num_bytes, external.dtype, storage.role, device)
    for slot, view in external.views:
        tensors[slot] = view_of(base, view)


def _present(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None, "a replayed operator reads a tensor that was freed"
    return tensor


class _Compiler:
    """State of one compilation: slots, which of them hold a tensor, and where storages end."""

    def __init__(
        self, graph: ModelGraph, unit: Unit, ends: Sequence[int], device: torch.device
    ) -> None:
        self.graph = graph
        self.unit = unit
        self.ends = ends
        self.device = device
        self.slots: dict[int, int] = {}
        self.known: dict[int, list[int]] = {}
        self.external: dict[int, list[int]] = {}
        self.last_use: dict[int, int] = {}
        self.notes: list[str] = []

    def compile(self) -> UnitPlan:
        positions = [*range(*self.unit.forward), *range(*self.unit.backward)]
        calls = [self._call(order, index) for order, index in enumerate(positions)]
        num_forward = self.unit.forward[1] - self.unit.forward[0]
        between = self._place_releases(calls, positions, num_forward)
        externals = [self._external(storage) for storage in self.external]
        static = {s for s in self.external if self.graph.storages[s].role in STATIC_ROLES}
        touched = {self.graph.tensors[tensor].storage for tensor in self.slots}
        return UnitPlan(
            forward=calls[:num_forward],
            backward=calls[num_forward:],
            externals=tuple(e for e in externals if e.storage not in static),
            statics=tuple(e for e in externals if e.storage in static),
            releases_between=between,
            num_slots=len(self.slots),
            num_bytes=sum(self.graph.storages[s].num_bytes for s in touched),
            notes=self.notes,
        )

    def _call(self, order: int, index: int) -> Call:
        op = self.graph.ops[index]
        derived = [d for tensor in op.inputs for d in self._read(order, tensor)]
        outputs = tuple(self._write(order, tensor) for tensor in op.outputs)
        try:
            function = find_operator(op.name)
            args, kwargs, holes = split_arguments(op.args, op.kwargs, self.device)
        except (UnsupportedArgument, AttributeError) as error:
            self.notes.append(f"{op.name} is not measured: {error}")
            function = stand_in(self.graph, op, self.device)
            return Call(index, function, [], {}, (), tuple(derived), outputs, measurable=False)
        filled = tuple((box, key, self._slot(tensor)) for box, key, tensor in holes)
        return Call(index, function, args, kwargs, filled, tuple(derived), outputs)

    def _read(self, order: int, tensor: int) -> list[tuple[int, int, TensorView]]:
        """Make sure that ``tensor`` exists: as it is, as a view of one that does, or made up."""
        view = self.graph.tensors[tensor]
        self.last_use[view.storage] = order
        slot = self._slot(tensor)
        if view.storage in self.external:
            if tensor not in self.external[view.storage]:
                self.external[view.storage].append(tensor)
            return []
        present = self.known.get(view.storage)
        if present is None:
            self.external[view.storage] = [tensor]
            return []
        if slot in present:
            return []
        present.append(slot)
        return [(slot, present[0], view)]

    def _write(self, order: int, tensor: int) -> int:
        storage = self.graph.tensors[tensor].storage
        self.last_use[storage] = order
        slot = self._slot(tensor)
        if storage not in self.external:
            self.known.setdefault(storage, []).append(slot)
        return slot

    def _slot(self, tensor: int) -> int:
        return self.slots.setdefault(tensor, len(self.slots))

    def _external(self, storage: int) -> External:
        tensors = self.external[storage]
        views = tuple((self._slot(t), self.graph.tensors[t]) for t in tensors)
        return External(storage, views[0][1].dtype, views)

    def _place_releases(
        self, calls: list[Call], positions: list[int], num_forward: int
    ) -> tuple[int, ...]:
        """Put every slot into the releases of a call; return those freed between the phases."""
        by_storage: dict[int, list[int]] = {}
        for tensor, slot in self.slots.items():
            by_storage.setdefault(self.graph.tensors[tensor].storage, []).append(slot)
        between: list[int] = []
        for storage, slots in by_storage.items():
            if self.graph.storages[storage].role in STATIC_ROLES:
                continue
            ended = bisect.bisect_left(positions, self.ends[storage] - 1)
            order = max(ended, self.last_use[storage])
            if order == num_forward and self.last_use[storage] < num_forward:
                between += slots
            elif order < len(calls):
                calls[order].releases += tuple(slots)
        return tuple(between)


def stand_in(graph: ModelGraph, op: Op, device: torch.device) -> Callable[..., Any]:
    """Return a function that makes up the results of ``op`` instead of computing them."""
    views = [graph.tensors[tensor] for tensor in op.outputs]

    def make_up(*_args: Any, **_kwargs: Any) -> list[torch.Tensor]:
        return [
            view_of(
                make_storage(
                    graph.storages[view.storage].num_bytes, view.dtype, "activation", device
                ),
                view,
            )
            for view in views
        ]

    return make_up
