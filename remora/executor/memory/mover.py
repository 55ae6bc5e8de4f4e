"""Copies between device and host: on CUDA on streams of their own, on the CPU at once."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from remora.executor.memory.host_pool import HostBlock, HostPool

__all__ = ["CpuMover", "CudaMover", "Event", "Mover", "mover_for"]

Event = torch.cuda.Event | None


class Mover(Protocol):
    """Issues copies; each returns an event that :meth:`wait` makes the compute stream wait for.

    Attributes:
        pool: where host blocks come from.
        down, up: streams of the copies to the host and back; None where there are none.
    """

    pool: HostPool
    down: torch.cuda.Stream | None
    up: torch.cuda.Stream | None

    def to_host(self, content: Tensor) -> tuple[HostBlock, Event]:
        """Issue the copy of ``content``, uint8 ``[num_bytes]``, to a host block."""
        ...

    def to_device(self, block: HostBlock, written: Event) -> tuple[Tensor, Event]:
        """Take device memory now and issue the copy of a block, written at ``written``, into it."""
        ...

    def store(self, target: Tensor, content: Tensor) -> Event:
        """Issue the copy of ``content`` into host memory of the same shape."""
        ...

    def load(self, target: Tensor, content: Tensor) -> Event:
        """Issue the copy of host memory into device memory that has just been taken."""
        ...

    def wait(self, event: Event) -> None:
        """Make what the program does next on the device wait for a copy."""
        ...

    def finish(self) -> None:
        """Let the host wait until everything that was issued so far has been done."""
        ...


class CpuMover:
    """Copies at once; the waits have nothing to wait for."""

    def __init__(self) -> None:
        self.pool = HostPool(pinned=False)
        self.down: torch.cuda.Stream | None = None
        self.up: torch.cuda.Stream | None = None

    def to_host(self, content: Tensor) -> tuple[HostBlock, Event]:
        """Copy uint8 ``[num_bytes]`` to a host block."""
        block = self.pool.acquire(content.numel())
        block.content.copy_(content)
        return block, None

    def to_device(self, block: HostBlock, written: Event) -> tuple[Tensor, Event]:
        """Copy a host block into fresh memory."""
        content = torch.empty(block.num_bytes, dtype=torch.uint8)
        return content, self.load(content, block.content)

    def store(self, target: Tensor, content: Tensor) -> Event:
        """Copy ``content`` into ``target``."""
        target.copy_(content)
        return None

    def load(self, target: Tensor, content: Tensor) -> Event:
        """Copy ``content`` into ``target``."""
        target.copy_(content)
        return None

    def wait(self, event: Event) -> None:
        """Do nothing: the copy is done."""

    def finish(self) -> None:
        """Do nothing: everything is done."""


class CudaMover:
    """One stream per direction; memory belongs to the compute stream.

    A tensor is given to a copy stream only between two waits of the compute stream, and whoever
    started the copy keeps it until the second, so the allocator never reuses it too early and
    ``record_stream`` is not needed.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool = HostPool(pinned=True)
        self._device = device
        self._down = torch.cuda.Stream(device)
        self._up = torch.cuda.Stream(device)
        self.down: torch.cuda.Stream | None = self._down
        self.up: torch.cuda.Stream | None = self._up

    def to_host(self, content: Tensor) -> tuple[HostBlock, Event]:
        """Issue the copy of uint8 ``[num_bytes]`` after what the compute stream has issued."""
        block = self.pool.acquire(content.numel())
        if block.idle_after is not None:
            self._down.wait_event(block.idle_after)
        return block, self.store(block.content, content)

    def to_device(self, block: HostBlock, written: Event) -> tuple[Tensor, Event]:
        """Take memory on the compute stream and issue the copy back."""
        content = torch.empty(block.num_bytes, dtype=torch.uint8, device=self._device)
        if written is not None:
            self._up.wait_event(written)
        block.idle_after = self.load(content, block.content)
        return content, block.idle_after

    def store(self, target: Tensor, content: Tensor) -> Event:
        """Issue the copy of ``content`` after what the compute stream has issued."""
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            target.copy_(content, non_blocking=True)
            event: Event = self._down.record_event()
            return event

    def load(self, target: Tensor, content: Tensor) -> Event:
        """Issue the copy of ``content`` into memory of the compute stream."""
        # The memory may have been given back by kernels that are still in the queue.
        self._up.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._up):
            target.copy_(content, non_blocking=True)
            event: Event = self._up.record_event()
            return event

    def wait(self, event: Event) -> None:
        """Make the compute stream wait for a copy."""
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)

    def finish(self) -> None:
        """Let the host wait for the compute stream and for both copy streams."""
        torch.cuda.current_stream(self._device).synchronize()
        self._down.synchronize()
        self._up.synchronize()


def mover_for(device: torch.device) -> Mover:
    """Return the mover of a device."""
    return CudaMover(device) if device.type == "cuda" else CpuMover()
