"""A model that is measured in a second, and may die under every plan but keep-all."""

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
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # [batch, WIDTH]
        return x + torch.relu(self.inner(self.norm(x)))


class Stack(nn.Module):
    """Blocks, one after the other; kills its process when a plan is in effect on them.

    Args:
        deaths: folder in which it leaves a file before every death; empty for one that lives.
    """

    def __init__(self, deaths: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self._deaths = deaths

    def forward(self, x: Tensor) -> Tensor:  # [batch, WIDTH]
        measured = MARK in os.environ and not isinstance(x, FakeTensor)
        planned = any("forward" in vars(module) for module in self.modules())
        if self._deaths and measured and planned:
            folder = Path(self._deaths)
            (folder / str(len(list(folder.iterdir())))).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for block in self.blocks:
            x = block(x)
        return x


def stack(batch: int = 4, deaths: str = "") -> tuple[nn.Module, tuple[Tensor]]:
    return Stack(deaths), (torch.rand(batch, WIDTH),)
