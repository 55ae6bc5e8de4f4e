"""Gradients that go to the host as soon as the backward has made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remora.executor.memory.mover import Event, Mover
from remora.executor.state.host_weights import HostWeight

__all__ = ["LeavingGradients"]


@dataclass(slots=True)
class _Leaving:
    """A gradient on its way out, and what is to be done once it is there."""

    gradient: Tensor
    stored: Event
    instructions: int = 0


class LeavingGradients:
    """Takes the gradients of a model to the host.

    Their memory on the device is given up before the second compute instruction after the one that
    made them, as :mod:`remora.schedule.gradients` says, which waits until they are gone.

    Args:
        weights: by weight of the model, its copy on the host.
        mover: issues the copies.
        begin_backward: called before a gradient is taken.
    """

    def __init__(
        self,
        weights: Mapping[nn.Parameter, HostWeight],
        mover: Mover,
        begin_backward: Callable[[], None],
    ) -> None:
        self._weights = weights
        self._mover = mover
        self._begin_backward = begin_backward
        self._leaving: list[_Leaving] = []
        self._landed: dict[HostWeight, Tensor] = {}
        self._hooks = [
            weight.register_post_accumulate_grad_hook(self._arrive)
            for weight in weights
            if weight.requires_grad
        ]

    def before_compute(self) -> None:
        """Give up gradients that have had one compute instruction to leave."""
        for entry in [entry for entry in self._leaving if entry.instructions >= 1]:
            self._end(entry)
        for entry in self._leaving:
            entry.instructions += 1

    def flush(self) -> None:
        """Wait for everything that is still leaving, and add up what has landed."""
        for entry in list(self._leaving):
            self._end(entry)
        if self._landed:
            self._mover.finish()
            for weight in list(self._landed):
                self._add(weight)

    def close(self) -> None:
        """Give the gradients back to the weights of the model and leave them alone."""
        self.flush()
        self._mover.finish()
        for hook in self._hooks:
            hook.remove()
        for parameter, entry in self._weights.items():
            if entry.weight.grad is not None:
                parameter.grad = entry.weight.grad.to(parameter.device, copy=True)

    def _arrive(self, parameter: Tensor) -> None:
        """Start moving a gradient that is complete for this backward."""
        assert isinstance(parameter, nn.Parameter)
        gradient = parameter.grad
        if gradient is None:
            return
        if gradient.layout is not torch.strided:
            raise RuntimeError("a sparse gradient cannot go to the host unit by unit")
        self._begin_backward()
        parameter.grad = None
        stored = self._mover.store(self._target(self._weights[parameter]), gradient)
        self._leaving.append(_Leaving(gradient, stored))

    def _target(self, weight: HostWeight) -> Tensor:
        """Where a gradient goes: the first of a step to its place, later ones beside it."""
        if weight.weight.grad is None:
            weight.weight.grad = weight.gradient_buffer()
            return weight.weight.grad
        if weight in self._landed:
            self._mover.finish()
            self._add(weight)
        self._landed[weight] = weight.landing_buffer()
        return self._landed[weight]

    def _add(self, weight: HostWeight) -> None:
        landed = self._landed.pop(weight)
        assert weight.weight.grad is not None
        weight.weight.grad += landed

    def _end(self, entry: _Leaving) -> None:
        self._leaving.remove(entry)
        self._mover.wait(entry.stored)
