"""Offloaded tensors and the program points at which their device memory is given up and taken.

A copy to the host starts when the tensor is saved. Its device memory is released where the program
waits for that copy, and taken again where the copy back is issued; both are fixed points of the
compute stream, so the speed of the link changes the time of a step and never its memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.multiprocessing.reductions import StorageWeakRef

from remora.executor.memory.host_pool import HostBlock
from remora.executor.memory.layout import bytes_of, layout_of
from remora.executor.memory.mover import Event, Mover
from remora.executor.state.points import PassPoints
from remora.executor.timeline.event_log import SILENT, EventLog
from remora.schedule.program import InstructionKind

__all__ = ["ForwardClock", "HostCopy", "OffloadTimeline", "OffloadedTensor", "WatchedHandle"]


class HostCopy:
    """The bytes of one storage: on the device, on the host, or on the way.

    Args:
        mover: issues the copies.
        content: all bytes of the storage, uint8.  # [num_bytes]
        log: told of the copies.
        unit: that sends the bytes away.
    """

    def __init__(
        self, mover: Mover, content: Tensor, log: EventLog = SILENT, unit: int = -1
    ) -> None:
        self._mover = mover
        self._log = log
        self._unit = unit
        self._content: Tensor | None = content
        # Set before the copy, which fails where the host has no memory left.
        self._arrived: Event = None
        self._written: Event = None
        self._block: HostBlock | None = None
        with log.copy(InstructionKind.OFFLOAD, unit, mover.down):
            self._block, self._written = mover.to_host(content)

    def release(self) -> None:
        """Wait for the copy to the host and give up the device memory."""
        self._mover.wait(self._written)
        self._content = None

    def prefetch(self) -> None:
        """Take device memory, issue the copy back and give up the host memory.

        Does nothing if the bytes are on the device.
        """
        if self._content is None and self._block is not None:
            with self._log.copy(InstructionKind.PREFETCH, self._unit, self._mover.up):
                self._content, self._arrived = self._mover.to_device(self._block, self._written)
            self._give_back()

    def content(self) -> Tensor:
        """Return the bytes on the device, uint8 ``[num_bytes]``; waits for the copy back."""
        self.prefetch()
        assert self._content is not None
        self._mover.wait(self._arrived)
        return self._content

    def __del__(self) -> None:
        # A copy in flight still uses memory that is about to be given back.
        self._mover.wait(self._written)
        self._mover.wait(self._arrived)
        self._give_back()

    def _give_back(self) -> None:
        if self._block is not None:
            self._mover.pool.give_back(self._block)
            self._block = None


class OffloadedTensor:
    """What autograd or a region holds in place of a tensor whose storage is on the host.

    Args:
        timeline: of the forward that saved it.
        copy: of its storage.
        tensor: the tensor; only its layout is kept.
        unit: the last unit whose backward needs it.
    """

    __slots__ = ("__weakref__", "_copy", "_layout", "_requires_grad", "_timeline", "_unit")

    def __init__(
        self, timeline: OffloadTimeline, copy: HostCopy, tensor: Tensor, unit: int
    ) -> None:
        self._timeline = timeline
        self._copy = copy
        self._layout = layout_of(tensor)
        self._requires_grad = tensor.requires_grad
        self._unit = unit

    @property
    def changed(self) -> bool:
        """Never: the copy is nobody else's."""
        return False

    def storage(self) -> torch.UntypedStorage:
        """Return the whole storage on the device; fetches it now if nothing did before."""
        self._timeline.reach(self._unit)
        return self._copy.content().untyped_storage()

    def open(self) -> Tensor:
        """Return the tensor on the device; fetches it now if nothing did before."""
        return self._layout.over(self.storage()).requires_grad_(self._requires_grad)


class Saved(Protocol):
    """What autograd is given in place of a tensor."""

    def open(self) -> Tensor:
        """Return the tensor."""
        ...


_Saved = TypeVar("_Saved", bound="Tensor | Saved")


class WatchedHandle:
    """What autograd holds where the state of the model follows the units.

    Whatever the backward of a unit needs is asked for through such handles, so the weights of the
    unit are there before any of its operators runs.

    Args:
        timeline: of the forward that saved it.
        points: told that the backward runs.
        saved: the tensor, or what stands for it.
        unit: whose backward needs it.
    """

    __slots__ = ("_points", "_saved", "_timeline", "_unit")

    def __init__(
        self, timeline: OffloadTimeline, points: PassPoints, saved: Tensor | Saved, unit: int
    ) -> None:
        self._timeline = timeline
        self._points = points
        self._saved = saved
        self._unit = unit

    def open(self) -> Tensor:
        """Return the tensor, on the device."""
        self._timeline.reach(self._unit)
        tensor = self._saved if isinstance(self._saved, Tensor) else self._saved.open()
        self._points.backward(self._unit)
        return tensor


class ForwardClock:
    """Counts the forwards of units on one rank, of all its stages and micro-batches.

    A copy to the host that the k-th of them issued is waited for, and its device memory released,
    before forward k + window starts.
    """

    def __init__(self) -> None:
        self._forwards = 0
        self._pending: list[tuple[int, weakref.ref[HostCopy], OffloadTimeline]] = []

    def add(self, copy: HostCopy, timeline: OffloadTimeline, window: int) -> None:
        """Note a copy that the running forward issued."""
        self._pending.append((self._forwards + window, weakref.ref(copy), timeline))

    def start_forward(self) -> None:
        """Count a forward; release what is due before it."""
        self._forwards += 1
        self._release([entry for entry in self._pending if entry[0] <= self._forwards])

    def flush(self, timeline: OffloadTimeline) -> None:
        """Release everything of one forward pass, whose backward begins."""
        self._release([entry for entry in self._pending if entry[2] is timeline])

    def _release(self, entries: list[tuple[int, weakref.ref[HostCopy], OffloadTimeline]]) -> None:
        for entry in entries:
            self._pending.remove(entry)
            copy = entry[1]()
            if copy is not None:
                copy.release()


class OffloadTimeline:
    """Releases and prefetches the offloaded storages of one forward at their program points.

    Point ``i`` is the start of the backward of unit ``i``; point ``end`` the start of the whole
    backward.

    Args:
        mover: issues the copies.
        clock: of the rank.
        end: unit after the last of the stage.
        window: a copy is waited for before so many more forwards of units have started.
        distance: copies back for unit i are issued with the backward of unit i + distance.
        points: of weights and gradients that come and go with the units; None if none do.
        log: told what units move and make again.

    Attributes:
        points, log: the same.
    """

    def __init__(
        self,
        mover: Mover,
        clock: ForwardClock,
        end: int,
        window: int,
        distance: int,
        points: PassPoints | None = None,
        log: EventLog = SILENT,
    ) -> None:
        self.points = points
        self.log = log
        self._mover = mover
        self._clock = clock
        self._end = end
        self._window = window
        self._distance = distance
        self._prefetch_at: dict[int, list[weakref.ref[HostCopy]]] = {}
        self._copies: dict[tuple[int, int], tuple[StorageWeakRef, weakref.ref[HostCopy]]] = {}
        self._reached = end + 1

    def offload(self, tensor: Tensor, unit: int, last_unit: int) -> OffloadedTensor:
        """Start copying the storage of ``tensor`` to the host, once per storage and unit.

        Args:
            tensor: any strided view.
            unit: unit that offloads it.
            last_unit: last unit whose backward needs it.
        """
        storage = tensor.untyped_storage()
        known = self._copies.get((unit, storage._cdata))
        copy = known[1]() if known is not None and not known[0].expired() else None
        if copy is None:
            copy = HostCopy(self._mover, bytes_of(storage), self.log, unit)
            reference = weakref.ref(copy)
            self._copies[unit, storage._cdata] = (StorageWeakRef(storage), reference)
            self._clock.add(copy, self, self._window)
            prefetch_point = min(last_unit + self._distance, self._end)
            self._prefetch_at.setdefault(prefetch_point, []).append(reference)
        return OffloadedTensor(self, copy, tensor, last_unit)

    def watched(self, saved: _Saved, unit: int) -> _Saved | WatchedHandle:
        """Let the state of the model know where a saved tensor is needed, if it wants to."""
        return saved if self.points is None else WatchedHandle(self, self.points, saved, unit)

    def watch(self, tensors: Iterable[Tensor], unit: int) -> None:
        """Call :meth:`reach` when the backward of the latest-made of ``tensors`` begins."""
        nodes = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
        if nodes:
            reference = weakref.ref(self)
            max(nodes, key=_sequence).register_prehook(lambda *_: _reach(reference, unit))

    def reach(self, unit: int) -> None:
        """Note that the backward of ``unit`` begins; issue the copies that are due by then."""
        while self._reached > unit:
            self._reached -= 1
            if self._reached == self._end:
                self._clock.flush(self)
            if self.points is not None and self._reached < self._end:
                self.points.reach(self._reached)
            for copy in _living(self._prefetch_at.pop(self._reached, [])):
                copy.prefetch()


def _living(references: Iterable[weakref.ref[HostCopy]]) -> list[HostCopy]:
    return [copy for copy in (reference() for reference in references) if copy is not None]


def _sequence(node: Node) -> int:
    return node._sequence_nr()


def _reach(reference: weakref.ref[OffloadTimeline], unit: int) -> None:
    timeline = reference()
    if timeline is not None:
        timeline.reach(unit)
