"""A model that runs, or dies in a way of one's choice, for processes that tests start."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

WIDTH = 16
LARGEST_BATCH = 32


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # [batch, WIDTH]
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


class Toy(nn.Module):
    """Blocks in a row; a fault happens in the first forward that is no trace."""

    def __init__(self, fault: str, marker: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.fault = fault
        self.marker = Path(marker)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, FakeTensor):
            self._fail(len(x))
        for block in self.blocks:
            x = block(x)
        return x

    def _fail(self, batch: int) -> None:
        if self.fault == "memory" and batch > LARGEST_BATCH:
            raise torch.OutOfMemoryError("out of memory, says the test")
        if self.fault in ("abort", "hang") and not self.marker.exists():
            self.marker.touch()
            if self.fault == "abort":
                os.abort()
            time.sleep(600)


def toy(batch: int, fault: str = "", marker: str = "") -> tuple[nn.Module, tuple[Tensor]]:
    torch.manual_seed(0)
    return Toy(fault, marker), (torch.randn(batch, WIDTH),)
