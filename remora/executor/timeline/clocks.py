"""Clocks of the devices on which events happen."""

from __future__ import annotations

import time
from typing import Protocol

import torch

__all__ = ["Clock", "CpuClock", "CudaClock", "Mark", "clock_for"]

Mark = float | torch.cuda.Event
"""A moment, as a clock notes it."""


class Clock(Protocol):
    """Notes moments while something runs, and tells afterwards when they were.

    Attributes:
        levels_bytes: live device bytes and their highest level since the time before, of every
            :meth:`note_level`; empty where the clock cannot tell.
    """

    levels_bytes: list[tuple[int, int]]

    def now(self, stream: torch.cuda.Stream | None = None) -> Mark:
        """Note the moment at which a stream has done all that was given to it so far.

        Args:
            stream: of copies; None for the compute stream.
        """
        ...

    def note_level(self) -> None:
        """Note live bytes at the moment that was noted last."""
        ...

    def settle(self) -> None:
        """Wait for everything that was noted."""
        ...

    def since_s(self, base: Mark, mark: Mark) -> float:
        """Return the seconds from ``base`` to ``mark``, after :meth:`settle`."""
        ...


class CpuClock:
    """The process's own clock: whatever was given to a stream is done."""

    def __init__(self) -> None:
        self.levels_bytes: list[tuple[int, int]] = []

    def now(self, stream: torch.cuda.Stream | None = None) -> Mark:
        """Note this moment."""
        return time.perf_counter()

    def note_level(self) -> None:
        """Do nothing: PyTorch does not count what it allocates on the CPU."""

    def settle(self) -> None:
        """Do nothing."""

    def since_s(self, base: Mark, mark: Mark) -> float:
        """Return the seconds between two moments."""
        assert isinstance(base, float)
        assert isinstance(mark, float)
        return mark - base


class CudaClock:
    """CUDA events, which cost a few microseconds each and wait for nothing.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.levels_bytes: list[tuple[int, int]] = []
        self._device = device

    def now(self, stream: torch.cuda.Stream | None = None) -> Mark:
        """Record an event."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(stream or torch.cuda.current_stream(self._device))
        return event

    def note_level(self) -> None:
        """Read the allocator's figures, which follow the program and not the device."""
        level_bytes = torch.cuda.memory_allocated(self._device)
        self.levels_bytes.append((level_bytes, torch.cuda.max_memory_allocated(self._device)))
        torch.cuda.reset_peak_memory_stats(self._device)

    def settle(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self._device)

    def since_s(self, base: Mark, mark: Mark) -> float:
        """Return the seconds between two events."""
        assert isinstance(base, torch.cuda.Event)
        assert isinstance(mark, torch.cuda.Event)
        return float(base.elapsed_time(mark)) / 1e3


def clock_for(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
