"""Small problems for tests: a chain of toy blocks or a zoo model, with costs typed in."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware, HostLink, Link
from remora.schedule.costs import CostTable
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.zoo import build_target
from tests.zoo.model_files import load


class Block(nn.Module):
    """Linear, ReLU, linear, with a residual sum: one unit."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class BlockChain(nn.Module):
    """Blocks of the given hidden widths, one after the other."""

    def __init__(self, hidden: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, h) for h in hidden)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def cpu_hardware(host_pool: str = "emulated", device_type: str = "cpu") -> Hardware:
    return Hardware(
        name="test",
        device_type=device_type,
        devices_per_node=1,
        memory_bytes=2**36,
        context_bytes=0,
        flops_per_s={"float32": 1e11},
        memory_bandwidth_bytes_per_s=1e10,
        kernel_launch_s=1e-6,
        host=HostLink(2**36, 1e9, 1e9, 1e-5, 1, True, host_pool),
        link=Link(1e9, 1e-6),
        node_link=Link(1e9, 1e-6),
    )


def table(graph: ModelGraph, copy_bytes_per_s: float = 1e9, time_scale: float = 1.0) -> CostTable:
    return CostTable(
        source="test",
        op_time_s=tuple(time_scale * (1e-6 + op.flops / 1e11) for op in graph.ops),
        op_workspace_bytes=(0,) * len(graph.ops),
        d2h_bytes_per_s=copy_bytes_per_s,
        h2d_bytes_per_s=copy_bytes_per_s,
        copy_latency_s=1e-5 * time_scale,
        optimizer_time_s=1e-4 * time_scale,
        allocation_granularity_bytes=1,
        saved_tensor_overhead_s=1e-7 * time_scale,
    )


def problem_of(
    graph: ModelGraph,
    budget_bytes: int = 2**36,
    optimizer: str = "adamw",
    hardware: Hardware | None = None,
    costs: CostTable | None = None,
) -> Problem:
    return Problem(
        graphs={1: graph},
        costs={1: costs or table(graph)},
        hardware=hardware or cpu_hardware(),
        optimizer=OPTIMIZERS[optimizer],
        budget_bytes=budget_bytes,
    )


@functools.lru_cache(maxsize=32)
def toy_graph(hidden: tuple[int, ...] = (64, 64, 64, 64), batch: int = 8) -> ModelGraph:
    return trace(BlockChain(hidden), (torch.randn(batch, 16),))


@functools.lru_cache(maxsize=32)
def zoo_graph(name: str) -> ModelGraph:
    values = load("model", name)
    torch.manual_seed(0)
    return trace(*build_target(values["target"], values["values"]), model_name=name)
