"""PyTorch's own ways to save memory, each beside our plan of no larger peak."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from benchmarks.gpu_campaign.measuring import StepFigures, free_cached, free_page_locked
from benchmarks.gpu_campaign.plans import best_plan, plan_named
from benchmarks.gpu_campaign.subject import Item, Items, NotAsked, Subject

__all__ = ["alternatives", "compiler"]

BUDGETS = (1.0, 0.5, 0.2)
"""Of `activation_memory_budget`: shares of what the compiled model keeps by itself."""

_SEARCH_S = {"cuda": 6.0, "cpu": 1.0}
_COMPILE_S = {"cuda": 60.0, "cpu": 5.0}


def alternatives(subject: Subject) -> Items:
    """Run checkpointing of every block and saving on the CPU, and our plans at their peaks."""
    yield Item("plain", partial(_plain, subject, "alternatives"))
    for label, run in (("checkpoint every block", _checkpointed), ("save_on_cpu", _saved_on_cpu)):
        yield Item(label, partial(_theirs, subject, run))
        yield Item(f"ours at {label}", partial(_ours, subject, "alternatives", label), 12.0)


def compiler(subject: Subject) -> Items:
    """Compile with activation memory budgets, and run our plans at their peaks."""
    yield Item("plain", partial(_plain, subject, "compiler"))
    for budget in BUDGETS:
        label = f"compile, budget {budget:g}"
        least_s = _COMPILE_S[subject.device.type]
        yield Item(label, partial(_theirs, subject, partial(_compiled, budget=budget)), least_s)
        yield Item(f"ours at {label}", partial(_ours, subject, "compiler", label), 12.0)


def _plain(subject: Subject, section: str) -> Mapping[str, Any]:
    return subject.run_schedule(section, "plain", plan_named(subject, "keep_all"))


def _theirs(subject: Subject, run: Callable[[Subject], StepFigures]) -> Mapping[str, Any]:
    return run(subject).values()


def _ours(subject: Subject, section: str, label: str) -> Mapping[str, Any]:
    record = subject.known.get((section, label))
    if record is None or record.status != "ok":
        raise NotAsked(f"there is no figure for {label!r} to compare with")
    theirs = record.figures
    budget_bytes = theirs["peak_allocated_bytes"] - theirs["library_bytes"]
    schedule = best_plan(subject.within(budget_bytes), _SEARCH_S[subject.device.type])
    figures = subject.run_schedule(section, f"ours at {label}", schedule)
    return figures | {
        "time_over_theirs": figures["step_time_s"] / theirs["step_time_s"],
        "peak_over_theirs": figures["peak_allocated_bytes"] / theirs["peak_allocated_bytes"],
    }


def _checkpointed(subject: Subject) -> StepFigures:
    """Non-reentrant checkpointing around every block, as a model's own switch does it."""
    name = subject.part.block
    blocks = [module for module in subject.model.modules() if type(module).__name__ == name]
    if not blocks:
        raise NotAsked(f"the model has no block of class {name!r}")
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        return subject.measure()
    finally:
        for block in blocks:
            del block.forward


def _saved_on_cpu(subject: Subject) -> StepFigures:
    """Every saved tensor waits on the host."""
    pinned = subject.device.type == "cuda"
    try:
        return subject.measure(partial(save_on_cpu, pin_memory=pinned))
    finally:
        free_page_locked(subject.device)


def _compiled(subject: Subject, budget: float) -> StepFigures:
    model = subject.model
    torch._dynamo.reset()
    free_cached(subject.device)
    # The compiler's own backend needs a toolchain; on a CPU the partition is what is tried.
    backend = "inductor" if subject.device.type == "cuda" else "aot_eager_decomp_partition"
    with _memory_budget(budget), _forward_of(model, torch.compile(model.forward, backend=backend)):
        try:
            return subject.measure()
        finally:
            torch._dynamo.reset()


@contextlib.contextmanager
def _memory_budget(budget: float) -> Iterator[None]:
    from torch._functorch import config

    before = config.activation_memory_budget
    config.activation_memory_budget = budget
    try:
        yield
    finally:
        config.activation_memory_budget = before


@contextlib.contextmanager
def _forward_of(model: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    model.forward = forward
    try:
        yield
    finally:
        del model.forward
