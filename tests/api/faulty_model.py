"""A model of a user's own that can fail in the process of a run, and only there."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from remora.api.marked_processes import MARK

BATCH, WIDTH = 32, 64
WAIT_S = 600.0


class Block(nn.Module):
    """What it does to its process: nothing, or the last block of the last rank fails.

    Args:
        fault: ``none``, ``kill``, ``hang``, ``hunger`` or ``error``; others matter elsewhere.
        reached: a file that it makes before.
    """

    def __init__(self, fault: str, reached: str) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 4 * WIDTH)
        self.second = nn.Linear(4 * WIDTH, WIDTH)
        self._fault = fault
        self._reached = Path(reached)

    def forward(self, x: Tensor) -> Tensor:  # [BATCH, WIDTH]
        if self._fault != "none" and not isinstance(x, FakeTensor) and _on_last_rank():
            self._reached.touch()
            _fail(self._fault)
        return x + self.second(torch.relu(self.first(x)))


def make_faulty(fault: str = "none", reached: str = "") -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    if fault == "build" and _on_last_rank():
        raise KeyError("no such weights here")
    blocks = [Block("none", "") for _ in range(4)]
    return nn.Sequential(*blocks, Block(fault, reached)), (torch.rand(BATCH, WIDTH),)


def _on_last_rank() -> bool:
    last = int(os.environ.get("WORLD_SIZE", "1")) - 1
    return MARK in os.environ and os.environ.get("RANK", "0") == str(last)


def _fail(fault: str) -> None:
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        time.sleep(WAIT_S)
    if fault == "hunger":
        now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now_bytes + 2**26, now_bytes + 2**26))
        torch.empty(2**30).fill_(1.0)
    raise ValueError("the last block has had enough")
