"""Units that keep, move, compress and recompute different tensors of their own.

In the forward autograd is given handles, one per saved tensor; what stands behind a handle is a
block: a storage that is kept, on the host, compressed, or to be made again. Blocks are held by
handles only, so memory lives exactly as long as autograd needs it. The first handle that is opened
restores what is compressed and makes again what was dropped, once per forward of the unit.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from remora.executor.memory.call_log import CallLog
from remora.executor.memory.compression import CompressedStorage, can_hold
from remora.executor.memory.layout import Layout, bytes_of, is_plain, layout_of
from remora.executor.memory.offload import OffloadTimeline
from remora.executor.memory.rerun import Rerun, StorageSource, rerun, rerun_plan
from remora.schedule.closure import Closure, closure_of
from remora.schedule.program import InstructionKind
from remora.schedule.schedule import Action

__all__ = ["PartialHandle", "PartialUnit"]


class KeptStorage:
    """A storage that stays on the device, saved by a unit or from before it.

    Args:
        tensor: any view of it.
        label: names the unit, for messages.
        scratch: whether it may change, since no result depends on what it holds.
    """

    __slots__ = ("__weakref__", "_label", "_scratch", "_tensor", "_version")

    def __init__(self, tensor: Tensor, label: str, scratch: bool = False) -> None:
        # As it is, the result of a node would hold the node that holds it.
        self._tensor = tensor.detach()
        self._version = tensor._version
        self._label = label
        self._scratch = scratch

    def storage(self) -> torch.UntypedStorage:
        """Return the storage.

        Raises:
            RuntimeError: it was changed in place since.
        """
        if self._tensor._version != self._version and not self._scratch:
            raise RuntimeError(
                f"a tensor that the backward of {self._label} needs was changed in place after "
                "the unit read or saved it"
            )
        return self._tensor.untyped_storage()


class RemadeStorage:
    """A storage that is dropped in the forward and made again.

    Attributes:
        made: the storage, once it was made again.
    """

    __slots__ = ("__weakref__", "made")

    def __init__(self) -> None:
        self.made: torch.UntypedStorage | None = None

    def storage(self) -> torch.UntypedStorage:
        """Return the storage made again."""
        if self.made is None:
            raise RuntimeError("a saved tensor is gone: its recomputation failed before")
        return self.made


class PartialHandle:
    """What autograd holds in place of a saved tensor of such a unit.

    Args:
        unit: that saved it.
        layout: of the tensor.
        block: stands for its storage.
    """

    __slots__ = ("_block", "_layout", "_unit")

    def __init__(self, unit: PartialUnit, layout: Layout, block: StorageSource) -> None:
        self._unit = unit
        self._layout = layout
        self._block = block

    def open(self) -> Tensor:
        """Return the tensor; the first of the unit's handles makes all of them ready."""
        self._unit.materialise()
        return self._layout.over(self._block.storage())


class PartialUnit:
    """One forward of a unit.

    Args:
        label: names the unit, for messages.
        unit: its index.
        timeline: program points of the host copies.
        log: its calls, if anything is recomputed; it numbers the storages in any case.
        device: of the model.
        errors: receives the compression error of saved tensors that are not in it, by name.
        changing: addresses of the storages of buffers that every forward of the unit changes.
    """

    def __init__(
        self,
        label: str,
        unit: int,
        timeline: OffloadTimeline,
        log: CallLog,
        device: torch.device,
        errors: dict[str, float],
        changing: frozenset[int] = frozenset(),
    ) -> None:
        self._label = label
        self._unit = unit
        self._changing = changing
        self._timeline = timeline
        self._log: CallLog | None = log
        self._device = device
        self._errors = errors
        self._rerun: Rerun | None = None
        self._ready = False
        self._blocks: dict[int, weakref.ref[StorageSource]] = {}

    def pack(self, tensor: Tensor, action: Action, name: str) -> Tensor | PartialHandle:
        """Return what autograd gets for a saved tensor.

        Args:
            tensor: to be saved.
            action: what happens to it, if that is possible; else it is kept.
            name: of the saved tensor.
        """
        if not is_plain(tensor):
            return tensor.detach()
        if self._log is None:
            return PartialHandle(self, layout_of(tensor), KeptStorage(tensor, self._label))
        number = self._log.number_of(tensor)
        block = self._block(number)
        if block is None:
            block = self._new_block(self._log, tensor, action, name)
            self._blocks[number] = weakref.ref(block)
        return PartialHandle(self, layout_of(tensor), block)

    def close(self) -> None:
        """Note that the unit has run: find out what has to run again, and forget the rest.

        Raises:
            RuntimeError: something that has to run again reads a tensor that is gone.
        """
        log, self._log = self._log, None
        if log is None:
            return
        blocks = {number: self._block(number) for number in self._blocks}
        wanted = frozenset(n for n, block in blocks.items() if isinstance(block, RemadeStorage))
        if not wanted:
            return
        available = {n for n, block in blocks.items() if block is not None} - wanted
        closure = closure_of(log.steps(), wanted, available)
        self._check_closure(log, closure)
        scratch = {n for position in closure.steps for n in log.calls[position].scratch}
        sources: dict[int, StorageSource] = {}
        for number in closure.sources | scratch:
            found = blocks.get(number) if number in available else None
            sources[number] = found or self._outside(log, number, number in scratch)
        self._rerun = rerun_plan(self._label, log, closure, sources, wanted, self._device)

    def _check_closure(self, log: CallLog, closure: Closure) -> None:
        calls = [log.calls[position] for position in closure.steps]
        able = all(c.whole and not (c.strange or c.operator.barrier) for c in calls)
        if not able or not closure.copied <= log.before_writes.keys():
            raise RuntimeError(
                f"{self._label} does not run as it was traced, and what it recomputes cannot be "
                "made again"
            )

    def materialise(self) -> None:
        """Restore what is compressed and make again what was dropped, once."""
        if self._ready:
            return
        self._ready = True
        # Somebody may want gradients before the unit has ended; what it saves later is kept.
        self.close()
        self._timeline.reach(self._unit)
        compressed = [b for b in map(self._block, self._blocks) if isinstance(b, CompressedStorage)]
        if compressed:
            with self._again(InstructionKind.RESTORE):
                for block in compressed:
                    block.restore()
        plan, self._rerun = self._rerun, None
        if plan is None:
            return
        with self._again(InstructionKind.RECOMPUTE):
            for number, storage in rerun(plan).items():
                remade = self._block(number)
                if isinstance(remade, RemadeStorage):
                    remade.made = storage

    @contextlib.contextmanager
    def _again(self, kind: InstructionKind) -> Iterator[None]:
        with self._timeline.log.again(kind) as turn_to:
            turn_to(self._unit)
            if self._timeline.points is not None:
                self._timeline.points.part_again(self._unit)
            yield

    def _block(self, number: int) -> StorageSource | None:
        reference = self._blocks.get(number)
        return reference() if reference is not None else None

    def _new_block(self, log: CallLog, tensor: Tensor, action: Action, name: str) -> StorageSource:
        if action is Action.RECOMPUTE and log.can_make(log.number_of(tensor)):
            return RemadeStorage()
        if action is Action.OFFLOAD:
            return self._timeline.offload(tensor, self._unit, self._unit)
        if action is Action.COMPRESS and can_hold(tensor.untyped_storage(), tensor.dtype):
            judge = name not in self._errors
            block = CompressedStorage(tensor.untyped_storage(), tensor.dtype, judge)
            if block.error is not None:
                self._errors[name] = block.error
            return block
        return KeptStorage(tensor, self._label)

    def _outside(self, log: CallLog, number: int, scratch: bool) -> KeptStorage:
        tensor = log.held.get(number)
        if tensor is None:
            tensor = log.alive(number)
        if tensor is None:
            raise RuntimeError(
                f"{self._label} does not run as it was traced, and a tensor that its "
                "recomputation needs is gone"
            )
        storage = tensor.untyped_storage()
        if storage._cdata in self._changing and not scratch:
            # The next forward may come before the backward.
            tensor = bytes_of(storage.clone())
        return KeptStorage(tensor, self._label, scratch)
