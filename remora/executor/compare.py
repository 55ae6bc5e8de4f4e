"""What one forward and backward leave behind, and how far two of them are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remora.executor.memory.install import Handle
from remora.executor.step import model_device
from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss

__all__ = [
    "Difference",
    "Outcome",
    "differ",
    "gradient_distance",
    "largest_difference",
    "largest_gradient_difference",
    "run_once",
]


@dataclass(frozen=True)
class Outcome:
    """Copies in host memory of what a forward and backward changed.

    Attributes:
        loss: scalar.
        gradients: by parameter; None where the parameter got none.
        buffers: by name.
        random_states: of the CPU and, on CUDA, of the device.
    """

    loss: Tensor
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    random_states: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """The parameter whose gradient, or that itself, differs most.

    Attributes:
        parameter: its name; empty if none differs.
        relative: largest absolute difference over the largest entry.
    """

    parameter: str
    relative: float


def run_once(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    seed: int,
    handle: Handle | None = None,
) -> Outcome:
    """Run one forward and backward from a seed and copy what they left behind.

    Args:
        model: without gradients.
        example_inputs: one batch.
        loss: of the output; None for the default.
        seed: of the random generators.
        handle: of the plan that is applied to the model; None for a plain model.
    """
    torch.manual_seed(seed)
    value = resolve_loss(loss)(call_model(model, example_inputs))
    value.backward()
    device = model_device(model)
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    plain = {name: p.grad for name, p in model.named_parameters()}
    made = plain if handle is None else handle.gradients()
    return Outcome(
        loss=_copy(value),
        gradients={name: None if g is None else _copy(g) for name, g in made.items()},
        buffers={name: _copy(buffer) for name, buffer in model.named_buffers()},
        random_states=tuple(states),
    )


def differ(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors are further apart than ``tolerance`` times their largest entry."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return True
    return _relative_difference(a, b) > tolerance


def largest_gradient_difference(a: Outcome, b: Outcome, floor: float = 0.0) -> Difference:
    """Find the gradient that differs most; infinitely if only one of the two has it.

    Args:
        a: one run, to which differences are relative.
        b: another one.
        floor: a gradient counts as no smaller than this share of the largest entry of all.
    """
    made = [g.abs().max().item() for g in a.gradients.values() if g is not None and g.numel()]
    scale = floor * max(made, default=0.0)
    return largest_difference(a.gradients, b.gradients, least_scale=scale)


def largest_difference(
    a: Mapping[str, Tensor | None], b: Mapping[str, Tensor | None], *, least_scale: float = 0.0
) -> Difference:
    """Find the tensor that differs most; infinitely if only one of the two has it.

    Args:
        a: tensors by name, to whose largest entry differences are relative.
        b: others of the same names.
        least_scale: entries count as no smaller than this.
    """
    worst = Difference("", 0.0)
    for name, first in a.items():
        second = b[name]
        if first is None or second is None:
            relative = 0.0 if first is second else float("inf")
        else:
            relative = _relative_difference(first, second, least_scale)
        if relative > worst.relative:
            worst = Difference(name, relative)
    return worst


def gradient_distance(a: Outcome, b: Outcome) -> float:
    """Euclidean distance of all gradients together, over the length of those of ``a``.

    Unlike the largest difference it is not about gradients that are zero but for rounding, as
    those of a bias before a softmax. Infinite if only one of the two has some gradient.
    """
    distance = length = 0.0
    for name, first in a.gradients.items():
        second = b.gradients[name]
        if first is None or second is None:
            distance += 0.0 if first is second else float("inf")
            continue
        distance += (first - second).abs().double().square().sum().item()
        length += first.abs().double().square().sum().item()
    if distance == 0.0:
        return 0.0
    return math.sqrt(distance / length) if length > 0 else float("inf")


def _relative_difference(a: Tensor, b: Tensor, least_scale: float = 0.0) -> float:
    """Largest difference over the largest entry of ``a``; 0 where both are not a number."""
    if a.numel() == 0 or torch.equal(a, b):
        return 0.0
    if not (a.is_floating_point() or a.is_complex()):
        return float("inf")
    both_nan = a.isnan() & b.isnan()
    gap = torch.where(both_nan, 0.0, (a - b).abs().double()).max().item()
    if gap == 0.0:
        return 0.0
    scale = max(least_scale, torch.where(both_nan, 0.0, a.abs().double()).max().item())
    relative = gap / scale if scale > 0 else float("inf")
    return float("inf") if math.isnan(relative) else relative


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
