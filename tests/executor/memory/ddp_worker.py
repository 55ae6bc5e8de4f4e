"""One of two ranks that train a model in DDP, plain and by plans; writes what differed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from remora.executor.memory.install import apply
from remora.graph.model_graph import ModelGraph
from tests.executor.memory.loops import PLANS, batches, make_model, outcome, plan_of, unequal

RANKS = 2


class Unused(nn.Module):
    """A model with a weight that its output does not depend on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.spare = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


def _own_batches(count: int) -> list[Tensor]:
    first = dist.get_rank() * count
    return list(batches(RANKS * count)[first : first + count])


def _steps(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in _own_batches(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def _accumulated(model: nn.Module) -> None:
    *first, last = _own_batches(3)
    for x in first:
        with model.no_sync() if isinstance(model, DistributedDataParallel) else _nothing():
            model(x).square().mean().backward()
    model(last).square().mean().backward()


def _two_forwards(model: nn.Module) -> None:
    first, second = _own_batches(2)
    (model(first) - model(second)).square().mean().backward()


def _nothing() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


CASES: dict[str, tuple[Callable[[nn.Module], None], bool, bool]] = {
    # loop, whether a weight is unused, whether the plan is applied after DDP
    "steps": (_steps, False, False),
    "steps after": (_steps, False, True),
    "accumulated": (_accumulated, False, False),
    "two forwards": (_two_forwards, False, True),
    "unused weights": (_steps, True, False),
}


def _run(name: str, plan: str | None) -> dict[str, Tensor]:
    """Everything a case leaves behind on this rank."""
    loop, unused, after = CASES[name]
    model, graph = make_model()
    with contextlib.ExitStack() as stack:
        if not after:
            _apply(stack, model, graph, plan)
        root = Unused(model) if unused else model
        parallel = DistributedDataParallel(root, find_unused_parameters=unused)
        if after:
            _apply(stack, model, graph, plan)
        return outcome(parallel, loop)


def _apply(
    stack: contextlib.ExitStack, model: nn.Module, graph: ModelGraph, plan: str | None
) -> None:
    if plan is not None:
        stack.enter_context(apply(model, graph, plan_of(graph, plan)))


def work(rank: int, folder: str) -> None:
    """Run every case and write the names of what differed to ``folder``."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    found: dict[str, list[str]] = {}
    for case in CASES:
        plain = _run(case, None)
        for plan in PLANS:
            try:
                found[f"{case}, {plan}"] = unequal(plain, _run(case, plan))
            except RuntimeError as error:
                found[f"{case}, {plan}"] = [str(error)]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
