"""Small modules with every trap that a recomputation can fall into."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace


class Block(nn.Module):
    """Linear, in-place ReLU, dropout, linear; counts its calls."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 2 * width)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.3)
        self.outer = nn.Linear(2 * width, width)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.outer(self.drop(self.relu(self.inner(x))))


class Chain(nn.Module):
    """Residual blocks with glue between them: a mask, a sum, an in-place scale, dropout."""

    def __init__(self, length: int, width: int = 8, block: type[nn.Module] = Block) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(width) for _ in range(length))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        # x, mask [batch, width] -> [batch, width]
        for block in self.blocks:
            step = block(x) if mask is None else block(x) * mask
            step.mul_(0.5)
            x = x + nn.functional.dropout(step, 0.2, self.training)
        return x

    def calls(self) -> list[int]:
        """How often each block ran since the last :meth:`reset`."""
        return [block.calls for block in self.blocks]

    def reset(self) -> None:
        """Start counting from 0."""
        for block in self.blocks:
            block.calls = 0


def chain(length: int, width: int = 8, batch: int = 4) -> tuple[Chain, tuple[Any, ...], ModelGraph]:
    """A chain with one unit per block (and the loss as the last one), and its example inputs."""
    torch.manual_seed(1)
    model = Chain(length, width)
    inputs = (torch.randn(batch, width, requires_grad=True), torch.rand(batch, width) + 0.5)
    graph = trace(model, inputs, units=[f"blocks.{index}" for index in range(length)])
    assert len(graph.units) == length + 1
    model.reset()
    return model, inputs, graph


class NormBlock(nn.Module):
    """Batch norm and a layer with a buffer that its own forward reads and writes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, width)
        self.register_buffer("level", torch.ones(()))
        self.level: Tensor

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.level.mul_(1.25)
        return self.linear(self.norm(x)) * self.level


class Shared(nn.Module):
    """One block called three times, with keyword arguments, a dict and None passed around."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.block = KeywordBlock(width)

    def forward(self, x: Tensor) -> dict[str, Any]:
        cache: dict[str, Any] = {"sum": None}
        for index in range(3):
            x, cache = self.block(hidden=x, cache=cache, power=index + 1)
        return {"hidden": x, **cache}


class KeywordBlock(nn.Module):
    """Takes and returns nested arguments."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.drop = nn.Dropout(0.5)

    def forward(
        self, *, hidden: Tensor, cache: dict[str, Any], power: int
    ) -> tuple[Tensor, dict[str, Any]]:
        out = self.drop(torch.tanh(self.linear(hidden))) ** power
        total = out if cache["sum"] is None else cache["sum"] + out
        return out, {"sum": total}
