"""Models that are measured in a second, one of which dies when it is recomputed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from remora.api.marked_processes import MARK

WIDTH = 16


class Block(nn.Module):
    """A layer that kills its process when it runs a second time in one step.

    Args:
        deaths: folder in which it leaves a file before every death; empty for a block that lives.
    """

    def __init__(self, deaths: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.calls = 0
        self._deaths = deaths

    def forward(self, x: Tensor) -> Tensor:  # [batch, WIDTH]
        self.calls += 1
        measured = MARK in os.environ and not isinstance(x, FakeTensor)
        if self._deaths and measured and self.calls > 1:
            folder = Path(self._deaths)
            (folder / str(len(list(folder.iterdir())))).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x + torch.relu(self.inner(self.norm(x)))


class Stack(nn.Module):
    def __init__(self, deaths: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(deaths) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:  # [batch, WIDTH]
        for block in self.blocks:
            block.calls = 0
        for block in self.blocks:
            x = block(x)
        return x


def stack(batch: int = 4, deaths: str = "") -> tuple[nn.Module, tuple[Tensor]]:
    return Stack(deaths), (torch.rand(batch, WIDTH),)
