"""How good predicted steps are: errors, order of the schedules of a graph, coverage of bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.gnn.conformal import Coverage, coverage
from remora.cost_models.gnn.step_examples import StepExample, by_graph
from remora.cost_models.gnn.step_model import Corrected

__all__ = ["StepErrors", "evaluate_by_family", "evaluate_steps", "kendall_taus", "simulated"]

Floats = NDArray[np.float64]

_LEAST_SCHEDULES = 3
"""Fewer schedules of one graph have no order worth a figure."""


@dataclass(frozen=True)
class StepErrors:
    """Predictions of steps against measurements.

    Attributes:
        count: steps.
        step_error: median of |predicted / measured - 1| of step times.
        step_bias: median of predicted / measured - 1.
        peak_error: the same of peaks, as an absolute error.
        tau: median over graphs of Kendall's tau between predicted and measured step times of the
            graph's schedules; NaN if no graph has enough.
        mean_tau: their mean.
        coverage: of the bounds on the peak.
    """

    count: int
    step_error: float
    step_bias: float
    peak_error: float
    tau: float
    mean_tau: float
    coverage: Coverage


def simulated(examples: Sequence[StepExample]) -> Corrected:
    """The simulator's own figures, with the peak as its bound."""
    peaks = np.concatenate([example.encoded.peak_bytes for example in examples])
    return Corrected(
        step_time_s=np.concatenate([example.encoded.step_s for example in examples]),
        spread=np.zeros(len(examples)),
        peak_bytes=peaks,
        bound_bytes=peaks,
        confidence=np.zeros(len(examples)),
    )


def evaluate_steps(examples: Sequence[StepExample], predicted: Corrected) -> StepErrors:
    """Hold predictions against what was measured.

    Args:
        examples: measured steps, at least one.
        predicted: for each of them.
    """
    measured_s = np.array([example.row.step_time_s for example in examples])
    measured_bytes = np.array([float(example.row.peak_memory_bytes) for example in examples])
    errors = predicted.step_time_s / measured_s - 1
    peak_bytes = predicted.peak_bytes.astype(np.float64)
    taus = list(kendall_taus(examples, predicted.step_time_s).values())
    return StepErrors(
        count=len(examples),
        step_error=float(np.median(np.abs(errors))),
        step_bias=float(np.median(errors)),
        peak_error=float(np.median(np.abs(peak_bytes / measured_bytes - 1))),
        tau=float(np.median(taus)) if taus else float("nan"),
        mean_tau=float(np.mean(taus)) if taus else float("nan"),
        coverage=coverage(measured_bytes, peak_bytes, predicted.bound_bytes.astype(np.float64)),
    )


def evaluate_by_family(
    examples: Sequence[StepExample], predicted: Corrected
) -> Mapping[str, StepErrors]:
    """The same for every family."""
    found: dict[str, StepErrors] = {}
    for family in sorted({example.family for example in examples}):
        places = [place for place, example in enumerate(examples) if example.family == family]
        found[family] = evaluate_steps(
            [examples[place] for place in places], _at(predicted, places)
        )
    return found


def kendall_taus(examples: Sequence[StepExample], step_time_s: Floats) -> Mapping[str, float]:
    """Kendall's tau-b of every graph over its schedules (Kendall 1938, 1945).

    Args:
        examples: measured steps.
        step_time_s: predicted.  # [n]

    Returns:
        By subject; graphs with few schedules are left out, and a prediction that is the same for
        all of them has no order: 0.
    """
    from scipy.stats import kendalltau

    found: dict[str, float] = {}
    for subject, places in by_graph(examples).items():
        if len(places) < _LEAST_SCHEDULES:
            continue
        measured_s = [examples[place].row.step_time_s for place in places]
        tau = float(kendalltau(step_time_s[places], measured_s).statistic)
        found[subject] = 0.0 if np.isnan(tau) else tau
    return found


def _at(predicted: Corrected, places: Sequence[int]) -> Corrected:
    """Predictions of some of the steps."""
    return Corrected(
        predicted.step_time_s[places],
        predicted.spread[places],
        predicted.peak_bytes[places],
        predicted.bound_bytes[places],
        predicted.confidence[places],
    )
