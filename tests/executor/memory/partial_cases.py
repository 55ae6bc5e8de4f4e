"""Small models whose first unit recomputes a part of what it saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from remora.executor.memory.install import apply
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.menu import keep_option
from remora.schedule.recompute import partial_closure
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption
from tests.executor.memory.plans import differences, run_steps

RECOMPUTE, KEEP, OFFLOAD = Action.RECOMPUTE, Action.KEEP, Action.OFFLOAD


def makers(graph: ModelGraph, unit: int) -> list[str]:
    """Operator that made the storage of every saved tensor; empty for what exists before."""
    storages = [graph.storages[graph.storage_of(s)] for s in graph.units[unit].saved]
    first = graph.units[unit].forward[0]
    return [graph.ops[s.created].name.split(".")[1] if s.created >= first else "" for s in storages]


def mixed(graph: ModelGraph, unit: int, *recomputed: str, rest: Action = KEEP) -> UnitOption:
    """Recompute what the named operators made (all if none is named), treat the rest as said."""
    names = makers(graph, unit)
    assert set(recomputed) <= set(names), names
    chosen = [
        RECOMPUTE if name and (name in recomputed or not recomputed) else rest for name in names
    ]
    saved = graph.units[unit].saved
    return UnitOption(tuple((s.name, action) for s, action in zip(saved, chosen, strict=True)))


def plan_of(graph: ModelGraph, options: dict[int, UnitOption], **memory: Any) -> Schedule:
    chosen = tuple(options.get(u.index, keep_option(u)) for u in graph.units)
    return Schedule(graph.content_hash, MemoryPlan(chosen, **memory))


class Counting(TorchDispatchMode):
    """Counts operators that make or change memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def counted(function: Callable[[], object]) -> Counter[str]:
    with Counting() as mode:
        function()
    return mode.calls


class Model(nn.Module):
    """Calls a function in its first unit; the second unit is a linear layer."""

    def __init__(self, function: Callable[[Model, Tensor], Tensor], width: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, width)
        self.function = function
        self.more = False

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self, x))


def check(
    function: Callable[[Model, Tensor], Tensor],
    *recomputed: str,
    steps: int = 1,
    expected: tuple[str, ...] | None = None,
) -> None:
    """Recompute results of some operators of ``function``; all else must be as in a plain run.

    Args:
        function: first unit of a model.
        recomputed: operators whose saved results are recomputed; all if there are none.
        steps: forward and backward that many times.
        expected: operators that run again.
    """
    torch.manual_seed(1)
    model, inputs = Model(function), (torch.randn(6, 8),)
    graph = trace(model, inputs, units=["head"])
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    plain = run_steps(model, inputs, steps=steps)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    one = mixed(graph, 0, *recomputed)
    if expected is not None:
        again = partial_closure(graph, graph.units[0], one).steps
        assert tuple(graph.ops[i].name.split(".")[1] for i in again) == expected
    with apply(model, graph, plan_of(graph, {0: one})):
        assert differences(plain, run_steps(model, inputs, steps=steps)) == []
