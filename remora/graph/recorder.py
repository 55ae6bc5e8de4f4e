"""A dispatch mode that writes down operators, storages, their lifetimes and saved tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd import _get_sequence_nr  # type: ignore[attr-defined]
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from remora.graph.model_graph import ACTIVATION, BACKWARD, BUFFER, FORWARD, Spec, TensorView

Execute = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Runs an operator with its arguments."""

ALIVE = 1 << 62
"""Operator index that stands for "never dropped"."""


@dataclass
class StorageRecord:
    """A storage while it is being recorded; see ``model_graph.Storage``."""

    num_bytes: int
    role: str
    name: str
    created: int
    dropped: int = ALIVE


@dataclass
class OpRecord:
    """An operator while it is being recorded; see ``model_graph.Op``."""

    name: str
    phase: str
    module: str
    args: tuple[Spec, ...]
    kwargs: tuple[tuple[str, Spec], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    flops: float
    random: bool
    view: bool
    mutates: tuple[int, ...]
    node_sequence: int


@dataclass
class PackRecord:
    """One tensor that autograd packed, and when it let go of it."""

    tensor: int
    op: int
    sequence: int
    released: int = ALIVE


@dataclass
class CallRecord:
    """One module call: half-open range of operators and of autograd node numbers."""

    path: str
    call: int
    start: int
    depth: int
    sequence: int
    end: int = -1
    end_sequence: int = -1


class _Token:
    """What autograd holds in place of a saved tensor; its death is the tensor's release."""

    __slots__ = ("__weakref__", "pack", "surrogate")

    def __init__(self, pack: PackRecord, surrogate: torch.Tensor) -> None:
        self.pack = pack
        self.surrogate = surrogate


@dataclass
class Recording:
    """Everything one traced step left behind, in order of execution."""

    ops: list[OpRecord] = field(default_factory=list)
    storages: list[StorageRecord] = field(default_factory=list)
    tensors: list[TensorView] = field(default_factory=list)
    packs: list[PackRecord] = field(default_factory=list)
    calls: list[CallRecord] = field(default_factory=list)
    num_forward_ops: int = 0


class Recorder(TorchDispatchMode):
    """Records every aten operator that runs while the mode is active.

    Saved tensors are replaced by stand-ins of the same layout, so that a forward tensor's recorded
    lifetime is what Python keeps alive and autograd's own hold is known apart
    (:meth:`pack`, :meth:`unpack`).

    Args:
        make_surrogate: returns a tensor of the same values or, under fake tensors, of the same
            layout, that shares no storage with its argument.
        execute: runs one operator.
    """

    def __init__(
        self, make_surrogate: Callable[[torch.Tensor], torch.Tensor], execute: Execute
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = Recording()
        self._execute = execute
        self._make_surrogate = make_surrogate
        self._storage_of: dict[int, tuple[int, int]] = {}
        self._tensor_index: dict[TensorView, int] = {}
        self._call_stack: list[CallRecord] = []
        self._call_counts: dict[str, int] = {}
        self._phase = FORWARD
        self._silent = False

    def register(self, tensor: torch.Tensor, role: str, name: str) -> None:
        """Note a storage that exists before the step."""
        if tensor.untyped_storage()._cdata not in self._storage_of:
            self._new_storage(tensor, role, name, created=-1)

    def start_backward(self) -> None:
        """End the forward; what follows belongs to the backward."""
        self.recording.num_forward_ops = len(self.recording.ops)
        self._phase = BACKWARD

    def storage_index(self, tensor: torch.Tensor) -> int:
        """Index of the storage behind ``tensor``; -1 if the recorder never met it."""
        return self._storage_of.get(tensor.untyped_storage()._cdata, (-1, 0))[0]

    def enter_module(self, path: str) -> None:
        """Note that the forward of the module at ``path`` begins."""
        call = self._call_counts.get(path, 0)
        self._call_counts[path] = call + 1
        record = CallRecord(
            path, call, len(self.recording.ops), len(self._call_stack), _get_sequence_nr()
        )
        self._call_stack.append(record)
        self.recording.calls.append(record)

    def leave_module(self) -> None:
        """Note that the forward of the innermost module ended."""
        record = self._call_stack.pop()
        record.end = len(self.recording.ops)
        record.end_sequence = _get_sequence_nr()

    @property
    def module_path(self) -> str:
        """Path of the innermost running module."""
        return self._call_stack[-1].path if self._call_stack else ""

    def pack(self, tensor: torch.Tensor) -> _Token:
        """Saved-tensor hook: note the tensor and hand autograd a stand-in."""
        recording = self.recording
        index = self._tensor(tensor)
        record = PackRecord(index, len(recording.ops), _get_sequence_nr())
        recording.packs.append(record)
        view = recording.tensors[index]
        static = recording.storages[view.storage].created < 0
        surrogate = tensor if static else self._quietly(self._make_surrogate, tensor)
        if not static:
            self._alias(surrogate, view.storage, view.offset)
        token = _Token(record, surrogate)
        weakref.finalize(token, self._release, record)
        return token

    def unpack(self, token: _Token) -> torch.Tensor:
        """Saved-tensor hook: give the stand-in back."""
        return token.surrogate

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operator and write it down."""
        kwargs = kwargs or {}
        if self._silent or func.namespace == "prim":
            return func(*args, **kwargs)
        inputs = [self._tensor(leaf) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)]
        specs = tuple(self._spec(arg) for arg in args)
        named = tuple((key, self._spec(value)) for key, value in kwargs.items())
        mutated = self._mutated(func, args, kwargs)
        result = self._execute(func, args, kwargs)
        known = len(self.recording.storages)
        outputs = [self._tensor(leaf, False) for leaf in tree_leaves(result) if _is_tensor(leaf)]
        node = torch._C._current_autograd_node() if self._phase == BACKWARD else None
        self.recording.ops.append(
            OpRecord(
                name=str(func),
                phase=self._phase,
                module=self.module_path,
                args=specs,
                kwargs=named,
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                flops=_flops(func, args, kwargs, result),
                random=torch.Tag.nondeterministic_seeded in func.tags,
                view=len(self.recording.storages) == known and not mutated,
                mutates=mutated,
                node_sequence=node._sequence_nr() if node is not None else -1,
            )
        )
        return result

    def _release(self, record: PackRecord) -> None:
        record.released = len(self.recording.ops)

    def _quietly(
        self, function: Callable[[torch.Tensor], torch.Tensor], tensor: torch.Tensor
    ) -> torch.Tensor:
        self._silent = True
        try:
            with torch.no_grad():
                return function(tensor)
        finally:
            self._silent = False

    def _alias(self, surrogate: torch.Tensor, storage: int, offset: int) -> None:
        untyped = surrogate.untyped_storage()
        key = untyped._cdata
        self._storage_of[key] = (storage, offset - int(surrogate.storage_offset()))
        weakref.finalize(untyped, self._storage_of.pop, key, None)

    def _new_storage(self, tensor: torch.Tensor, role: str, name: str, created: int) -> int:
        untyped = tensor.untyped_storage()
        index = len(self.recording.storages)
        record = StorageRecord(untyped.nbytes(), role, name, created)
        self.recording.storages.append(record)
        self._storage_of[untyped._cdata] = (index, 0)
        weakref.finalize(untyped, self._drop, untyped._cdata, record)
        return index

    def _drop(self, key: int, record: StorageRecord) -> None:
        record.dropped = len(self.recording.ops)
        self._storage_of.pop(key, None)

    def _tensor(self, tensor: torch.Tensor, existing: bool = True) -> int:
        """Index of the view; an unknown storage is a constant if ``existing``, else a result."""
        entry = self._storage_of.get(tensor.untyped_storage()._cdata)
        if entry is None:
            role, created = (BUFFER, -1) if existing else (ACTIVATION, len(self.recording.ops))
            entry = (self._new_storage(tensor, role, "", created), 0)
        view = TensorView(
            entry[0],
            tuple(int(size) for size in tensor.shape),
            tuple(int(step) for step in tensor.stride()),
            int(tensor.storage_offset()) + entry[1],
            str(tensor.dtype).removeprefix("torch."),
        )
        index = self._tensor_index.get(view)
        if index is None:
            index = self._tensor_index[view] = len(self.recording.tensors)
            self.recording.tensors.append(view)
        return index

    def _mutated(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """Storages that the schema of ``func`` says it writes to."""
        written = []
        for position, argument in enumerate(func._schema.arguments):
            declared = argument.alias_info is not None and argument.alias_info.is_write
            if not declared and not _updates_statistics(func, argument.name):
                continue
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            written += [leaf for leaf in tree_leaves(value) if _is_tensor(leaf)]
        return tuple(dict.fromkeys(self.storage_index(tensor) for tensor in written))

    def _spec(self, value: Any) -> Spec:
        if _is_tensor(value):
            return ["tensor", self._tensor(value)]
        if isinstance(value, (list, tuple)):
            return ["list", [self._spec(item) for item in value]]
        for kind, name in _NAMED_TYPES:
            if isinstance(value, kind):
                return [name, str(value).removeprefix("torch.")]
        if isinstance(value, complex):
            return ["complex", [value.real, value.imag]]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return ["symbol", str(value)]
        return ["opaque", type(value).__name__]


_NAMED_TYPES = (
    (torch.dtype, "dtype"),
    (torch.device, "device"),
    (torch.layout, "layout"),
    (torch.memory_format, "memory_format"),
)


_INT8_PRODUCTS = frozenset({"_int_mm", "scaled_int8_mm"})
_BATCH_NORMS = frozenset({"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"})


def _updates_statistics(func: Any, argument: str) -> bool:
    """Whether batch norm writes to the argument, which its schema does not say."""
    name = func._overloadpacket.__name__
    return name in _BATCH_NORMS and argument in ("running_mean", "running_var")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _flops(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> float:
    """FLOPs by PyTorch's own formulas; one per result element where it has none."""
    formula = flop_registry.get(func._overloadpacket)
    if formula is not None:
        return float(formula(*args, **kwargs, out_val=result))
    if func._overloadpacket.__name__ in _INT8_PRODUCTS:
        rows, columns = args[0].shape[0], args[1].shape[1]
        return float(2 * rows * columns * args[0].shape[1])
    return float(sum(leaf.numel() for leaf in tree_leaves(result) if _is_tensor(leaf)))
