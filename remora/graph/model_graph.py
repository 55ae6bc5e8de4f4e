"""The traced operators of one step or pass, cut into units: frozen records with a content hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from remora.graph.precision.precision import Precision, is_lossy

FORWARD = "forward"
BACKWARD = "backward"

# Roles of a storage. The first three exist before the step begins and outlive it.
PARAMETER = "parameter"
BUFFER = "buffer"
INPUT = "input"
GRADIENT = "gradient"
ACTIVATION = "activation"
STATIC_ROLES = frozenset({PARAMETER, BUFFER, INPUT})

# Operators that ranks run together; their second argument is how many.
ALL_REDUCE = "remora.all_reduce.default"
ALL_GATHER = "remora.all_gather.default"
COLLECTIVES = frozenset({ALL_REDUCE, ALL_GATHER})

Spec = Any
"""An operator argument as JSON: numbers, strings, None, or ``["tensor", index]``,
``["list", [...]]``, ``["dtype", name]``, ``["device", name]``, ``["layout", name]``,
``["memory_format", name]``."""


@dataclass(frozen=True, slots=True)
class Storage:
    """One block of memory that operators share.

    Attributes:
        num_bytes: size in bytes.
        role: parameter, buffer, input, gradient (of a parameter) or activation.
        name: parameter, buffer or input name; empty for activations.
        created: index of the operator that allocates it; -1 if it exists before the step.
        dropped: number of operators that had run when the program (its Python variables and the
            running backward nodes) let go of it, tensors saved for backward not counted; the
            operator count means the end of the step.
    """

    num_bytes: int
    role: str
    name: str
    created: int
    dropped: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A strided view of a storage, as an operator sees it.

    Attributes:
        storage: index into ``ModelGraph.storages``.
        shape, stride, offset: in elements.
        dtype: as in ``float32``.
    """

    storage: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Op:
    """One executed aten operator.

    Attributes:
        name: overload name, for example ``aten.addmm.default``.
        phase: ``forward`` or ``backward``.
        module: path of the innermost running module; empty at the root and in the backward.
        unit: index of the unit it belongs to.
        args, kwargs: arguments as :data:`Spec`.
        inputs, outputs: indices into ``ModelGraph.tensors``.
        flops: floating point operations.
        bytes_read, bytes_written: memory traffic if nothing is cached.
        random: draws from the generator.
        view: returns only views of its inputs.
        mutates: storages that it changes in place.
    """

    name: str
    phase: str
    module: str
    unit: int
    args: tuple[Spec, ...]
    kwargs: tuple[tuple[str, Spec], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    flops: float
    bytes_read: int
    bytes_written: int
    random: bool
    view: bool
    mutates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """What autograd packs once for the backward of a unit, in the order of packing.

    Attributes:
        name: stable within the unit kind, ``index:operator``.
        index: position in the unit's order of packing (what the executor counts).
        tensor: index into ``ModelGraph.tensors``.
        op: number of operators that had run when it was packed.
        released: number of operators that had run when its backward node let go of it.
    """

    name: str
    index: int
    tensor: int
    op: int
    released: int


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a module in one forward.

    Attributes:
        path: of the module, as in ``named_modules``.
        call: number of its calls before, from 0.
    """

    path: str
    call: int


@dataclass(frozen=True, slots=True)
class Unit:
    """A contiguous piece of the forward that a schedule decides about.

    It begins when ``marker`` is called (the first unit: when the model is called) and ends where
    the next unit begins, so units tile the forward. ``steps`` are the largest module calls inside;
    operators outside of them (a residual sum in the parent's code) are its glue.

    Attributes:
        index: position in the chain.
        name: path of the marker module.
        kind: content hash; equal for units with the same operators, shapes and lifetimes.
        marker: the call that begins the unit; None for the first.
        steps: module calls that tile the unit, in order.
        forward: half-open range of operator indices.
        backward: half-open range of operator indices (its backward is contiguous).
        saved: what autograd packs, in order.
        mutated_buffers: names of buffers that its forward changes (batch norm statistics).
        fixed_reason: why it cannot be recomputed or offloaded; empty if it can.
        precision: what its products are computed in.
    """

    index: int
    name: str
    kind: str
    marker: ModuleCall | None
    steps: tuple[ModuleCall, ...]
    forward: tuple[int, int]
    backward: tuple[int, int]
    saved: tuple[SavedTensor, ...]
    mutated_buffers: tuple[str, ...]
    fixed_reason: str
    precision: Precision = Precision.MODEL


@dataclass(frozen=True)
class ModelGraph:
    """Forward and backward operators of one micro-batch, with storages and units.

    Operators stand in the order of execution: all of the forward, then all of the backward, of
    which a graph that was traced for inference has none.

    Attributes:
        model_name: for people.
        ops: operators.
        storages: what they read and write, each counted once.
        tensors: views of the storages, which operators name by index.
        units: pieces of the forward, in order.
        num_forward_ops: how many of ``ops`` are forward.
        traced_with: how it was traced: with fake tensors, or with real ones.
        notes: sentences for the user.
    """

    model_name: str
    ops: tuple[Op, ...]
    storages: tuple[Storage, ...]
    tensors: tuple[TensorView, ...]
    units: tuple[Unit, ...]
    num_forward_ops: int
    traced_with: str
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def content_hash(self) -> str:
        """Hash of operators, shapes and units; equal graphs have equal hashes."""
        text = json.dumps([[u.kind, u.name, *_lossy(u)] for u in self.units])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        """Hash by content, without reading every operator again."""
        return hash(self.content_hash)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precision of every unit; empty where all have the model's.  # [num_units] or [0]."""
        found = tuple(unit.precision for unit in self.units)
        return found if is_lossy(found) else ()

    @property
    def forward_only(self) -> bool:
        """Whether it was traced without a backward."""
        return self.num_forward_ops == len(self.ops)

    @cached_property
    def tensor_degree(self) -> int:
        """Ranks that share every layer, of one of which this is the graph."""
        return next((int(op.args[1]) for op in self.ops if op.name in COLLECTIVES), 1)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters, shared storages counted once."""
        return self._role_bytes(PARAMETER)

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all buffers."""
        return self._role_bytes(BUFFER)

    @property
    def input_bytes(self) -> int:
        """Bytes of the example batch."""
        return self._role_bytes(INPUT)

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients of all parameters that get one."""
        return self._role_bytes(GRADIENT)

    @property
    def flops(self) -> float:
        """Floating point operations of forward and backward."""
        return sum(op.flops for op in self.ops)

    def forward_ops(self, unit: Unit) -> Iterator[tuple[int, Op]]:
        """Yield (index, operator) of the unit's forward."""
        for index in range(*unit.forward):
            yield index, self.ops[index]

    def backward_ops(self, unit: Unit) -> Iterator[tuple[int, Op]]:
        """Yield (index, operator) of the unit's backward."""
        for index in range(*unit.backward):
            yield index, self.ops[index]

    def storage_of(self, saved: SavedTensor) -> int:
        """Index of the storage that a saved tensor views."""
        return self.tensors[saved.tensor].storage

    def _role_bytes(self, role: str) -> int:
        return sum(s.num_bytes for s in self.storages if s.role == role)


def _lossy(unit: Unit) -> tuple[str, ...]:
    """What the hash of a unit adds to that of one at the model's precision."""
    return () if unit.precision is Precision.MODEL else (unit.precision.value,)
