"""Optimizers that keep their state in host memory and step there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from remora.executor.cpu_memory import work_on_host
from remora.executor.memory.mover import Mover
from remora.executor.state.host_weights import HostWeight, local_part

__all__ = ["HostStep", "OptimizerFactory", "host_optimizer"]

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
        waits_on_host: whether a weight has no memory on the device between its uses; None if all
            have.
    """

    def __init__(
        self,
        weights: Sequence[HostWeight],
        mover: Mover,
        before: Callable[[], None] | None = None,
        waits_on_host: Callable[[nn.Parameter], bool] | None = None,
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
        if self._before is not None:
            self._before()
        for entry in self._weights:
            if not self._waits(entry):
                entry.refresh()
            gradient = entry.device_weight.grad
            if gradient is not None:
                entry.weight.grad = self._arrived(entry, local_part(gradient))
        self._mover.finish()
        self._work = work_on_host()
        self._work.__enter__()

    @torch.no_grad()
    def end(self, *_: Any) -> None:
        """Bring the weights back to the device; the gradients of this step are gone."""
        self._work.__exit__(None, None, None)
        for entry in self._weights:
            if not self._waits(entry):
                entry.send_back()
            entry.device_weight.grad = None
            entry.weight.grad = None

    def _waits(self, entry: HostWeight) -> bool:
        return self._waits_on_host is not None and self._waits_on_host(entry.device_weight)

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
