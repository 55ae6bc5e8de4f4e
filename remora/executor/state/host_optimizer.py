"""Optimizers that keep their state in host memory and step there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from remora.errors import MissingExtraError
from remora.executor.cpu_memory import work_on_host
from remora.executor.memory.mover import Mover
from remora.executor.state.host_weights import HostWeight

__all__ = ["HostStep", "OptimizerFactory", "host_optimizer", "offloaded_optimizer"]

OptimizerFactory = Callable[[Sequence[Tensor]], Optimizer]
"""Makes an optimizer of PyTorch for some weights."""


class HostStep:
    """What happens around a step of an optimizer on the host.

    Gradients are copied to the host before it, as far as they are not there, and weights that live
    on the device are copied back after it.

    Args:
        weights: that are trained.
        mover: issues the copies.
        before: called first; whatever the backward left unfinished ends here.
        waits_on_host: whether a weight has no memory on the device between its uses.
    """

    def __init__(
        self,
        weights: Sequence[HostWeight],
        mover: Mover,
        before: Callable[[], None],
        waits_on_host: Callable[[nn.Parameter], bool],
    ) -> None:
        self._weights = weights
        self._mover = mover
        self._before = before
        self._waits_on_host = waits_on_host
        self._work: AbstractContextManager[object] = contextlib.nullcontext()

    @property
    def host_weights(self) -> list[Tensor]:
        """What the optimizer steps."""
        return [entry.weight for entry in self._weights]

    @torch.no_grad()
    def begin(self, *_: Any) -> None:
        """Bring all gradients to the host and wait for them."""
        self._before()
        for entry in self._weights:
            if not self._waits_on_host(entry.device_weight):
                entry.refresh()
            gradient = entry.device_weight.grad
            if gradient is not None:
                entry.weight.grad = self._arrived(entry, gradient)
        self._mover.finish()
        self._work = work_on_host()
        self._work.__enter__()

    @torch.no_grad()
    def end(self, *_: Any) -> None:
        """Bring the weights back to the device; the gradients of this step are gone."""
        self._work.__exit__(None, None, None)
        for entry in self._weights:
            if not self._waits_on_host(entry.device_weight):
                entry.send_back()
            entry.device_weight.grad = None
            entry.weight.grad = None

    def _arrived(self, entry: HostWeight, gradient: Tensor) -> Tensor:
        if gradient.layout is not torch.strided:
            return gradient.cpu()
        buffer = entry.gradient_buffer()
        self._mover.store(buffer, gradient)
        return buffer


def host_optimizer(factory: OptimizerFactory, step: HostStep) -> Optimizer:
    """Make an optimizer over the copies of weights on the host.

    It is PyTorch's own, so that it calculates what the same optimizer of a CPU model does; its
    ``step()`` also moves gradients and weights, and takes the gradients of the model away.

    Args:
        factory: makes it.
        step: what happens around its steps.
    """
    optimizer = factory(step.host_weights)
    optimizer.register_step_pre_hook(step.begin)
    optimizer.register_step_post_hook(step.end)
    return optimizer


def offloaded_optimizer(optimizer: Optimizer) -> Optimizer:
    """Turn an optimizer of a CUDA model into torchao's, whose state lives on the host.

    Each weight is stepped as soon as its gradient has arrived, and goes back while others step.

    Args:
        optimizer: made for the weights on the device, before its first step.

    Raises:
        MissingExtraError: torchao is not installed.
    """
    try:
        from torchao.optim import CPUOffloadOptimizer
    except ImportError as error:
        raise MissingExtraError("torchao", "lowbit", "an optimizer on the host") from error
    groups = [dict(group) for group in optimizer.param_groups]
    # Small weights would stay on the device, where the plan does not count their state.
    made: Optimizer = CPUOffloadOptimizer(groups, type(optimizer), minimal_size=0)
    return made
