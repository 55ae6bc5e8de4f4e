"""Where a few optimizer steps take the parameters, and how far two such ways end apart."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from remora.executor.memory.install import Handle
from remora.executor.step import TrainingStep
from remora.graph.loss import ExampleInputs, LossFunction

__all__ = ["TRAINED_STEPS", "trained_parameters", "ways_apart"]

TRAINED_STEPS = 3
"""More than one, so that a step starts from the parameters and the state that another one left."""


def trained_parameters(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    optimizer_name: str,
    seed: int,
    handle: Handle | None = None,
) -> dict[str, Tensor]:
    """Run optimizer steps from a seed and copy the parameters they end with.

    Args:
        model: without gradients; it is trained.
        example_inputs: one batch, used for every step.
        loss: of the output; None for the default.
        optimizer_name: its state begins empty. ``none`` stands for an optimizer that was only left
            out of the count, so plain gradient descent, which has no state, takes its place.
        seed: of the random generators before the first step.
        handle: of the plan that is applied to the model; None for a plain model.

    Returns:
        Parameters by name, in host memory.
    """
    stepping = "sgd" if optimizer_name == "none" else optimizer_name
    step = TrainingStep(model, example_inputs, loss, stepping, handle)
    torch.manual_seed(seed)
    for _ in range(TRAINED_STEPS):
        step.run()
    # Weights that wait on the host are in the dictionary only.
    state = model.state_dict()
    return {name: state[name].to("cpu", copy=True) for name, _ in model.named_parameters()}


def ways_apart(
    start: Mapping[str, Tensor], a: Mapping[str, Tensor], b: Mapping[str, Tensor]
) -> float:
    """Return how far ``a`` and ``b`` are apart, over the way from ``start`` to ``a``.

    Distances are Euclidean, over all parameters together. They say more than differences of single
    entries: Adam turns a gradient that is zero but for rounding into a whole step. Infinite if
    they differ where ``a`` did not move at all.

    Args:
        start: parameters by name, on any device.
        a: parameters by name, in host memory.
        b: the same, elsewhere.
    """
    apart = way = 0.0
    for name, first in a.items():
        apart += _square_sum(first, b[name])
        way += _square_sum(first, start[name].detach().cpu())
    if apart == 0.0:
        return 0.0
    return math.sqrt(apart / way) if way > 0 and math.isfinite(apart) else math.inf


def _square_sum(a: Tensor, b: Tensor) -> float:
    """Squared distance of two tensors; entries that are not a number in both are equal."""
    gap = torch.where(a.isnan() & b.isnan(), 0.0, (a - b).abs().double())
    total = gap.square().sum().item()
    return math.inf if math.isnan(total) else total
