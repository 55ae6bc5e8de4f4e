"""A model small enough to plan and run in a fraction of a second."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from remora.api.plan import Plan
from remora.api.planning import optimize

BATCH, WIDTH = 64, 32


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 4 * WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.second = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # [BATCH, WIDTH]
        return x + self.second(self.dropout(torch.relu(self.first(x))))


class Stack(nn.Module):
    def __init__(self, depth: int = 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.head = nn.Linear(WIDTH, 8)

    def forward(self, x: Tensor) -> Tensor:  # [BATCH, WIDTH]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:  # [2, 4]
        return self.layer(x) @ torch.ones(5, 5)


def make_stack(depth: int = 6) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    return Stack(depth), (torch.rand(BATCH, WIDTH),)


def make_broken() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Broken(), (torch.ones(2, 4),)


def make_nothing() -> tuple[nn.Module, tuple[Tensor, ...]]:
    raise KeyError("no such weights")


def make_dying() -> tuple[nn.Module, tuple[Tensor, ...]]:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def small_plan(memory: str = "range:0.5", agent: str = "greedy") -> Plan:
    model, inputs = make_stack()
    return optimize(model, inputs, memory, hardware="rtx3090", agent=agent)
