"""Plans of every kind for a small chain, and training loops run plain and planned to compare."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

from remora.executor.memory.install import Handle, apply
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule
from tests.executor.memory.plans import mixed_option, schedule
from tests.executor.memory.toys import Block, Chain

LENGTH, WIDTH, BATCH = 4, 8, 6

PLANS = ("recompute", "nested", "partial", "offload", "mixture")


class LevelBlock(nn.Module):
    """Batch norm, a shift, and a level that training raises.

    Autograd saves only what was made of the level, so a second forward before the backward is
    allowed, and a recomputation needs the old level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, width)
        self.register_buffer("level", torch.ones(()))
        self.register_buffer("shift", torch.linspace(-1.0, 1.0, width))
        self.level: Tensor
        self.shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.level.mul_(1.25)
        return self.linear(torch.tanh(self.norm(x) + self.level + self.shift))


class Mixed(Chain):
    """Blocks with dropout and blocks with norms and a level, one after the other."""

    def __init__(self) -> None:
        super().__init__(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(
            LevelBlock(WIDTH) if index % 2 else Block(WIDTH) for index in range(LENGTH)
        )


def make_model() -> tuple[nn.Module, ModelGraph]:
    """A model in training mode and its graph, one unit per block and one for the loss."""
    torch.manual_seed(3)
    return Mixed(), _graph()


@functools.cache
def _graph() -> ModelGraph:
    units = [f"blocks.{index}" for index in range(LENGTH)]
    return trace(Mixed(), batches(1), units=units)


def batches(count: int, size: int = BATCH) -> tuple[Tensor, ...]:
    """Inputs, the same for every call.  # count times [size, WIDTH]"""
    draw = torch.Generator().manual_seed(4)
    return tuple(torch.randn(size, WIDTH, generator=draw) for _ in range(count))


def plan_of(graph: ModelGraph, name: str) -> Schedule:
    """The plan ``name`` of :data:`PLANS`."""
    if name == "recompute":
        return schedule(graph, Action.RECOMPUTE)
    if name == "offload":
        return schedule(graph, Action.OFFLOAD)
    if name == "nested":
        inner = (Group(0, 2), Group(2, 3))
        return schedule(graph, groups=(Group(0, LENGTH, Action.OFFLOAD, inner),))
    draw = random.Random(5)
    options = tuple(mixed_option(graph, unit.index, draw) for unit in graph.units)
    if name == "partial":
        return Schedule(graph.content_hash, MemoryPlan(options, (), 1, 1))
    mixture = (*schedule(graph, {0: Action.OFFLOAD}).memory.options[:1], *options[1:])
    tail = schedule(graph).memory.options[2:]
    return Schedule(
        graph.content_hash, MemoryPlan((*mixture[:2], *tail), (Group(2, LENGTH),), 2, 1)
    )


def outcome(model: nn.Module, loop: Callable[[nn.Module], object]) -> dict[str, Tensor]:
    """Run a loop from fixed seeds; returns everything it left behind, by name."""
    torch.manual_seed(6)
    loop(model)
    left = {"random state": torch.get_rng_state()}
    for name, parameter in model.named_parameters():
        left[f"parameter {name}"] = parameter.detach().clone()
        if parameter.grad is not None:
            left[f"gradient {name}"] = parameter.grad.clone()
    left.update({f"buffer {name}": value.clone() for name, value in model.named_buffers()})
    return left


def unequal(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names of what is not bitwise equal."""
    names = sorted(a.keys() ^ b.keys())
    return names + [name for name in a.keys() & b.keys() if not torch.equal(a[name], b[name])]


@functools.cache
def _plain_outcome(loop: Callable[[nn.Module], object]) -> dict[str, Tensor]:
    return outcome(make_model()[0], loop)


def compare(name: str, loop: Callable[[nn.Module], object]) -> tuple[list[str], Handle]:
    """Run ``loop`` on a plain model and under plan ``name``; returns what differs afterwards."""
    model, graph = make_model()
    plain = _plain_outcome(loop)
    with apply(model, graph, plan_of(graph, name)) as handle:
        planned = outcome(model, loop)
    return unequal(plain, planned), handle
