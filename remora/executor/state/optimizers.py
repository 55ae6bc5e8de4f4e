"""Optimizers for weights that live on the device, with their state where a plan wants it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from remora.errors import MissingExtraError
from remora.executor.memory.mover import CudaMover, Mover
from remora.executor.state.eight_bit import eight_bit_optimizer
from remora.executor.state.host_optimizer import HostStep, OptimizerFactory, host_optimizer
from remora.executor.state.host_weights import HostWeights, local_part
from remora.schedule.schedule import Placement

__all__ = ["arguments_of", "placed_optimizer"]


def placed_optimizer(
    weights: Sequence[nn.Parameter],
    placement: Placement,
    factory: OptimizerFactory,
    mover: Mover,
    copies: HostWeights | None = None,
) -> Optimizer:
    """Make an optimizer for weights on the device.

    On the host, its ``step()`` takes the gradients of the weights away, as ``zero_grad`` would.

    Args:
        weights: whole, or shards of a distributed tensor.
        placement: of its state.
        factory: makes one of PyTorch's for a list of weights.
        mover: moves gradients and weights, if the state is on the host.
        copies: on the host; None for new ones.

    Raises:
        InvalidInputError: there is no such optimizer in eight bits.
        MissingExtraError: torchao is needed and not installed.
    """
    if placement is Placement.DEVICE:
        return factory(weights)
    if placement is Placement.EIGHT_BIT:
        return eight_bit_optimizer(factory(weights))
    whole = all(local_part(weight) is weight for weight in weights)
    if whole and isinstance(mover, CudaMover):
        return _offloaded_optimizer(factory(weights))
    copies = HostWeights(mover) if copies is None else copies
    step = HostStep([copies.of(weight) for weight in weights], mover)
    return host_optimizer(factory, step)


def _offloaded_optimizer(optimizer: Optimizer) -> Optimizer:
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
    made: Optimizer = CPUOffloadOptimizer(
        groups, type(optimizer), minimal_size=0, **arguments_of(optimizer)
    )
    return made


def arguments_of(optimizer: Optimizer) -> Mapping[str, Any]:
    """What an optimizer was made with, for another one of its type."""
    known = inspect.signature(type(optimizer).__init__).parameters
    return {name: value for name, value in optimizer.defaults.items() if name in known}
