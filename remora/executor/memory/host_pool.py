"""Host memory for offloaded tensors: blocks reused by size class."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

__all__ = ["HostBlock", "HostPool"]

_SMALLEST_BLOCK_BYTES = 512
_CLASSES_PER_DOUBLING = 4


@dataclass(slots=True)
class HostBlock:
    """A block of host memory.

    Attributes:
        memory: uint8.  # [capacity_bytes]
        num_bytes: bytes asked for.
        idle_after: the last copy out of it; the next copy into it waits for that. None on the CPU.
    """

    memory: Tensor
    num_bytes: int
    idle_after: torch.cuda.Event | None = field(default=None)

    @property
    def content(self) -> Tensor:
        """The bytes in use, uint8 ``[num_bytes]``."""
        return self.memory[: self.num_bytes]


class HostPool:
    """Gives out host blocks and takes them back.

    Args:
        pinned: take page-locked memory, which a GPU copies to and from asynchronously; without it
            memory comes from NumPy, so that PyTorch's allocator counts none of it as device memory
            of a CPU model.

    Attributes:
        bytes_in_use: bytes asked for and not given back.
        peak_bytes: largest number of them so far.
    """

    def __init__(self, pinned: bool) -> None:
        self.bytes_in_use = 0
        self.peak_bytes = 0
        self._pinned = pinned
        self._free: dict[int, list[HostBlock]] = {}

    def acquire(self, num_bytes: int) -> HostBlock:
        """Return a block of at least ``num_bytes`` bytes."""
        self.bytes_in_use += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.bytes_in_use)
        capacity_bytes = size_class_bytes(num_bytes)
        free = self._free.get(capacity_bytes)
        if free:
            block = free.pop()
            block.num_bytes = num_bytes
            return block
        return HostBlock(self._allocate(capacity_bytes), num_bytes)

    def give_back(self, block: HostBlock) -> None:
        """Take a block back for later use."""
        self.bytes_in_use -= block.num_bytes
        self._free.setdefault(block.memory.numel(), []).append(block)

    def _allocate(self, capacity_bytes: int) -> Tensor:
        if self._pinned:
            return torch.empty(capacity_bytes, dtype=torch.uint8, pin_memory=True)
        return torch.from_numpy(np.empty(capacity_bytes, dtype=np.uint8))


def size_class_bytes(num_bytes: int) -> int:
    """Round up to a size class; classes are 1/4 of a power of two apart, waste at most 1/5."""
    if num_bytes <= _SMALLEST_BLOCK_BYTES:
        return _SMALLEST_BLOCK_BYTES
    step = max(1, (1 << (num_bytes - 1).bit_length()) // (2 * _CLASSES_PER_DOUBLING))
    return -(-num_bytes // step) * step
