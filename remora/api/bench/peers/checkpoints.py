"""PyTorch's ways to spend less memory on a step, put into effect on a model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from remora.api.bench.peers.sac_plans import sac_plan
from remora.graph.model_graph import ModelGraph
from remora.graph.wrapping import Function, wrapped_forwards
from remora.schedule.problem import CostTable

__all__ = ["PEERS", "Peer", "Subject", "blocks_of"]

_BUDGETS = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)
_SAVED = frozenset(
    {
        "mm",
        "addmm",
        "bmm",
        "convolution",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
    }
)
"""Operators whose results are dear to make again."""


@dataclass(frozen=True)
class Subject:
    """A model that peers are put into effect on.

    Attributes:
        model: to train.
        graph: its trace.
        costs: of the graph.
    """

    model: nn.Module
    graph: ModelGraph
    costs: CostTable


@dataclass(frozen=True)
class Peer:
    """One way.

    Attributes:
        name: in tables.
        settings: to try; None where there is nothing to set.
        in_effect: puts it into effect.
        compiles: whether it runs other kernels than the plain model, so that only its own plain
            setting, the first, is comparable.
        on_unified: whether it does anything where host and device are one memory.
    """

    name: str
    settings: tuple[float | None, ...]
    in_effect: Callable[[Subject, float | None], AbstractContextManager[nn.Module]]
    compiles: bool = False
    on_unified: bool = True


def blocks_of(model: nn.Module) -> tuple[str, ...]:
    """Paths of a model's repeated blocks: what is checkpointed by hand.

    They are the elements of lists of modules that lie in no other such list.
    """
    found: list[str] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{block}.") for block in found)
        if inside or not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        found += [
            f"{path}.{name}" if path else name
            for name, element in module.named_children()
            if any(True for _ in element.children())
        ]
    return tuple(found)


@contextlib.contextmanager
def _checkpointed(model: nn.Module, contexts: Callable[[str], Any | None]) -> Iterator[nn.Module]:
    """Checkpoint every block, with the context function of its path."""

    def run(path: str, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        chosen = contexts(path)
        options = {} if chosen is None else {"context_fn": chosen}
        return checkpoint(forward, *args, use_reentrant=False, **options, **kwargs)

    with wrapped_forwards(model, blocks_of(model), run):
        yield model


def _full(subject: Subject, setting: float | None) -> AbstractContextManager[nn.Module]:
    return _checkpointed(subject.model, lambda path: None)


def _selective(subject: Subject, setting: float | None) -> AbstractContextManager[nn.Module]:
    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        saved = op._overloadpacket.__name__ in _SAVED
        return CheckpointPolicy.MUST_SAVE if saved else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = functools.partial(create_selective_checkpoint_contexts, policy)
    return _checkpointed(subject.model, lambda path: contexts)


def _sac_ilp(subject: Subject, setting: float | None) -> AbstractContextManager[nn.Module]:
    blocks = blocks_of(subject.model)
    plans = {path: sac_plan(subject.graph, subject.costs, path, setting or 0.0) for path in blocks}
    return _checkpointed(
        subject.model, lambda path: functools.partial(plans[path].contexts, subject.model)
    )


@contextlib.contextmanager
def _memory_budget(subject: Subject, setting: float | None) -> Iterator[nn.Module]:
    import torch._functorch.config as functorch_config
    import torch._inductor.config as inductor_config

    torch._dynamo.reset()
    # Code that an earlier run left on disk would hide what compiling takes.
    fresh = inductor_config.patch(force_disable_caches=True)
    with fresh, functorch_config.patch(activation_memory_budget=setting):
        compiled = torch.compile(subject.model)
        assert isinstance(compiled, nn.Module)
        yield compiled
    torch._dynamo.reset()


@contextlib.contextmanager
def _save_on_cpu(subject: Subject, setting: float | None) -> Iterator[nn.Module]:
    pinned = torch.cuda.is_available()

    def run(path: str, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with torch.autograd.graph.save_on_cpu(pin_memory=pinned):
            return forward(*args, **kwargs)

    with wrapped_forwards(subject.model, [""], run):
        yield subject.model


PEERS = (
    Peer("full checkpointing", (None,), _full),
    Peer("selective checkpointing", (None,), _selective),
    Peer("sac_ilp", (0.75, 0.5, 0.25), _sac_ilp),
    Peer("activation_memory_budget", _BUDGETS, _memory_budget, compiles=True),
    Peer("save_on_cpu", (None,), _save_on_cpu, on_unified=False),
)
"""All of them; only ``sac_ilp`` searches before the first step."""
