"""How far units in fewer bits take loss, gradients and outputs from those of the plain model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from remora.executor.compare import Outcome, gradient_distance
from remora.graph.precision.precision import Precision, lossy_precisions
from remora.simulator.records import PrecisionError

__all__ = ["output_errors", "step_errors"]

_LOSS_TOLERANCE: Mapping[Precision, float] = {
    Precision.BF16: 0.01,
    Precision.INT8: 0.02,
    Precision.FP8: 0.02,
}
_GRADIENT_TOLERANCE: Mapping[Precision, float] = {
    Precision.BF16: 0.05,
    Precision.INT8: 0.15,
    Precision.FP8: 0.25,
}
"""Several times what the models of the zoo show (benchmarks/results/low_bit.md): a wrong gradient
is further away, and one that is only rounded is not."""

_ROUNDED_FACTOR = 2.0
"""Gradients may also differ by so many times what rounding the weights alone to bfloat16 does: some
models answer to that with other gradients altogether."""

_OUTPUT_TOLERANCE = 0.05
_LEAST_LENGTH = 1e-3


def step_errors(
    plain: Outcome, reduced: Outcome, precisions: Iterable[Precision], rounded: Outcome | None
) -> PrecisionError:
    """Compare a forward and backward with that of the plain model.

    Args:
        plain: of the plain model.
        reduced: with units in fewer bits.
        precisions: that occur.
        rounded: of the plain model with weights rounded to bfloat16; None if that did not run.
    """
    found = lossy_precisions(precisions)
    errors = _gradient_errors(plain, reduced)
    worst = max(errors, key=lambda name: errors[name], default="")
    own = plain.loss.double().item()
    noise = 0.0 if rounded is None else gradient_distance(plain, rounded)
    return PrecisionError(
        loss=_relative(abs(reduced.loss.double().item() - own), abs(own)),
        gradients=gradient_distance(plain, reduced),
        median_gradient=statistics.median(errors.values()) if errors else 0.0,
        max_gradient=errors.get(worst, 0.0),
        worst_gradient=worst,
        loss_tolerance=max(_LOSS_TOLERANCE[one] for one in found),
        gradient_tolerance=max(
            _ROUNDED_FACTOR * noise, *(_GRADIENT_TOLERANCE[one] for one in found)
        ),
        rounded_weights=noise,
    )


def output_errors(
    plain: Sequence[Tensor], reduced: Sequence[Tensor], tokens: tuple[Tensor, Tensor]
) -> PrecisionError:
    """Compare the outputs of a pass with those of the plain model.

    Args:
        plain: tensors of the plain model.
        reduced: of the one with units in fewer bits, of the same shapes.
        tokens: that both generated.
    """
    gap = math.hypot(*(_length(a - b) for a, b in zip(plain, reduced, strict=True)))
    whole = math.hypot(*map(_length, plain))
    first, second = tokens
    other = (first != second).double().mean().item() if first.numel() else 0.0
    return PrecisionError(
        loss=_relative(gap, whole), loss_tolerance=_OUTPUT_TOLERANCE, tokens=other
    )


def _gradient_errors(plain: Outcome, reduced: Outcome) -> dict[str, float]:
    """Error of every gradient by name; infinite where only one of the two runs has it."""
    lengths = {name: _length(g) for name, g in plain.gradients.items() if g is not None}
    least = _LEAST_LENGTH * max(lengths.values(), default=0.0)
    errors: dict[str, float] = {}
    for name, gradient in plain.gradients.items():
        other = reduced.gradients[name]
        if gradient is None or other is None:
            errors[name] = 0.0 if gradient is other else math.inf
        else:
            errors[name] = _relative(_length(gradient - other), max(lengths[name], least))
    return errors


def _length(tensor: Tensor) -> float:
    return float(tensor.double().square().sum().sqrt())


def _relative(gap: float, whole: float) -> float:
    if gap == 0.0:
        return 0.0
    error = gap / whole if whole > 0 else math.inf
    return math.inf if math.isnan(error) else error
