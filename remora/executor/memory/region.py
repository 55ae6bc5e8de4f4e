"""Regions: consecutive units whose saved tensors are recomputed from the region's inputs.

In the forward autograd is given empty :class:`SavedHandle` objects instead of tensors; only
autograd holds them, the region knows them by weak references. The first handle that is opened makes
its region replay the tape, which fills the handles that are still alive. So a recomputed
tensor lives exactly as long as autograd needs it, and a region is replayed at most once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from remora.executor.memory.ambient import RandomState
from remora.executor.memory.buffers import BufferSlot
from remora.executor.memory.tape import RegionInput, Tape

__all__ = ["Region", "SavedHandle"]


class Replay(Protocol):
    """Runs a region again; see :mod:`remora.executor.memory.replay`."""

    def __call__(self, region: Region) -> None:
        """Fill the region's living handles and hand its children their inputs."""
        ...


class SavedHandle:
    """What autograd holds in place of a tensor that can be recomputed.

    Attributes:
        region: the region that makes it.
        shape, dtype: of the tensor that was saved.
        tensor: the tensor, once recomputed.
    """

    __slots__ = ("__weakref__", "dtype", "region", "shape", "tensor")

    def __init__(self, region: Region, tensor: Tensor) -> None:
        self.region = region
        self.shape = tensor.shape
        self.dtype = tensor.dtype
        self.tensor: Tensor | None = None

    def open(self) -> Tensor:
        """Return the tensor; recomputes the region on first use.

        Raises:
            RuntimeError: the recomputation differed from the first run.
        """
        if self.tensor is None:
            self.region.materialise()
        if self.tensor is None:
            raise RuntimeError(
                f"recomputing {self.region.label} gave fewer tensors than its first run: the "
                "model is not deterministic"
            )
        return self.tensor

    def fill(self, tensor: Tensor) -> None:
        """Take the recomputed tensor.

        Raises:
            RuntimeError: it has another shape or dtype than the tensor that was saved.
        """
        if tensor.shape != self.shape or tensor.dtype != self.dtype:
            raise RuntimeError(
                f"recomputing {self.region.label} gave a tensor {_describe(tensor)} where its "
                f"first run saved {list(self.shape)} {self.dtype}: the model is not deterministic"
            )
        self.tensor = tensor.detach()


class Region:
    """One run of a recompute region.

    Args:
        label: names the units, for messages.
        tape: the tape of the outermost region around; shared with it.
        first_call: where this region begins on the tape.
        parent: the region around it; None for an outermost one.
        random: random state when it began.
        buffers: value, when it began, of buffers that its results depend on.
        slots: buffers that its units change.
        replay: runs it again.
        fill: called before that; returns what to call where a unit begins. None for nothing.

    Attributes:
        fill: the same.
        end_call: where it ends on the tape.
        inputs: tensors from outside, by number on the tape; None before a nested region was handed
            them and again after its replay.
    """

    def __init__(
        self,
        label: str,
        tape: Tape,
        parent: Region | None,
        random: RandomState,
        buffers: Mapping[BufferSlot, Tensor],
        slots: tuple[BufferSlot, ...],
        replay: Replay,
        fill: Callable[[], Callable[[int], None]] | None = None,
    ) -> None:
        self.fill = fill
        self.label = label
        self.tape = tape
        self.first_call = len(tape.calls)
        self.end_call = self.first_call
        self.parent = parent
        self.random = random
        self.buffers = dict(buffers)
        self.slots = slots
        self.inputs: dict[int, RegionInput] | None = None
        self._replay = replay
        self._handles: dict[tuple[int, int], weakref.ref[SavedHandle]] = {}
        self._children: list[weakref.ref[Region]] = []
        if parent is not None:
            parent._children.append(weakref.ref(self))

    def close(self) -> None:
        """Note that its last call has run; an outermost region takes hold of its inputs."""
        self.end_call = len(self.tape.calls)
        if self.parent is None:
            self.inputs = self.tape.inputs
            self.tape.close()

    def handle(self, call: int, position: int, tensor: Tensor) -> SavedHandle:
        """Return what autograd gets for the ``position``-th tensor saved during a call."""
        handle = SavedHandle(self, tensor)
        self._handles[call, position] = weakref.ref(handle)
        return handle

    def wanted(self) -> dict[int, dict[int, SavedHandle]]:
        """Empty handles that autograd still holds, by call and position."""
        found: dict[int, dict[int, SavedHandle]] = {}
        for (call, position), reference in self._handles.items():
            handle = reference()
            if handle is not None and handle.tensor is None:
                found.setdefault(call, {})[position] = handle
        return found

    @property
    def alive(self) -> bool:
        """Whether it or a region inside it still has handles to fill."""
        return bool(self.wanted()) or bool(self.waiting_children())

    def waiting_children(self) -> dict[int, Region]:
        """Nested regions that still need their inputs, by their first call."""
        children = [reference() for reference in self._children]
        return {
            child.first_call: child
            for child in children
            if child is not None and child.inputs is None and child.alive
        }

    def materialise(self) -> None:
        """Recompute, after the regions around it if they have not been.

        Raises:
            RuntimeError: an input was changed in place, or the recomputation differed.
        """
        if self.inputs is None and self.parent is not None:
            self.parent.materialise()
        if self.inputs is None:
            raise RuntimeError(f"the inputs of {self.label} are gone: it was recomputed before")
        self.check_inputs()
        self._replay(self)

    def check_inputs(self) -> None:
        """Raise RuntimeError if an input was changed in place."""
        if any(value.changed for value in (self.inputs or {}).values()):
            raise RuntimeError(
                f"an input of {self.label} was changed in place after it was read, so the unit "
                "cannot be recomputed"
            )


def _describe(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {tensor.dtype}"
