"""Refitting to the model at hand after a few measured steps: offsets only, shrunk to none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.gnn.step_examples import StepExample
from remora.cost_models.gnn.step_model import Offsets, StepModel
from remora.cost_models.gnn.step_peak import difficulty

__all__ = ["refit"]

Floats = NDArray[np.float64]

_STEP_NOISE = 0.01
_PEAK_NOISE = 0.0005
"""Least deviation of one measurement's logarithm: what a machine repeats to."""


def refit(model: StepModel, examples: Sequence[StepExample]) -> StepModel:
    """Move predictions towards what was measured of one model on one device.

    Each log offset is the posterior mean under a normal prior around 0, as wide as errors on
    graphs that were held out, so it never goes beyond the mean error. Offsets of earlier rounds
    are forgotten: give all measured steps of the model each time. The bound shrinks as far as the
    offset explains errors, but stays above every peak that was measured.

    Args:
        model: what predicts.
        examples: measured steps of one model on one device; none changes nothing.
    """
    base = model.with_offsets(Offsets())
    if not examples:
        return base
    predicted = base.predict(examples)
    measured_s = np.array([example.row.step_time_s for example in examples])
    measured_bytes = np.array([float(example.row.peak_memory_bytes) for example in examples])
    step_errors = np.log(measured_s / predicted.step_time_s)
    peak_errors = np.log(measured_bytes / predicted.peak_bytes)
    between, within = model.step_spreads
    step = _posterior_mean(step_errors, between, max(within, _STEP_NOISE))
    between, within = model.bound.between, max(model.bound.within, _PEAK_NOISE)
    peak = _posterior_mean(peak_errors, between, within)
    steps = np.concatenate([example.encoded.steps for example in examples])
    worst = float(np.max((peak_errors - peak) / difficulty(steps, model.bound.scale)))
    left = _left(len(examples), between, within)
    quantile = max(model.bound.quantile * left, worst)
    return base.with_offsets(Offsets(step, peak, quantile if math.isfinite(quantile) else None))


def _posterior_mean(errors: Floats, prior: float, noise: float) -> float:
    weight = len(errors) * prior**2 / (len(errors) * prior**2 + noise**2)
    return weight * float(np.mean(errors))


def _left(count: int, prior: float, noise: float) -> float:
    """Deviation of a new error once the offset is known this well, over that before."""
    posterior = prior**2 * noise**2 / (count * prior**2 + noise**2)
    return math.sqrt((posterior + noise**2) / (prior**2 + noise**2))
