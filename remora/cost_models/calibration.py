"""A cost table that agrees better with a few measured steps: three factors, shrunk to none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from remora.cost_models.gnn.step_examples import StepExample
from remora.cost_models.gnn.step_parts import PARTS
from remora.schedule.problem import CostTable

__all__ = ["PartFactors", "calibrated", "part_factors"]

_PRIOR = 0.3
"""Standard deviation that a factor is expected to have around 1."""

_NOISE = 0.03
"""Standard deviation of a measured step, relative to it."""

_LEAST, _MOST = 0.3, 3.0
_GROUPS = (("forward", "backward", "rerun"), ("hooks",), ("copies",))


@dataclass(frozen=True, slots=True)
class PartFactors:
    """By what the parts of a step are to be multiplied.

    Attributes:
        operators: seconds of operators, run for the first time or again.
        hooks: what the host adds per saved tensor that is not simply kept.
        copies: seconds of copies to the host, low-bit copies included.
    """

    operators: float = 1.0
    hooks: float = 1.0
    copies: float = 1.0


def part_factors(examples: Sequence[StepExample]) -> PartFactors:
    """Fit the factors by ridge regression around 1 (Hoerl, Kennard 1970).

    Args:
        examples: measured steps of one model on one device; none gives factors of 1.
    """
    if not examples:
        return PartFactors()
    seconds = np.stack([example.encoded.seconds.sum(axis=0)[0] for example in examples])  # [n, P]
    columns = [[PARTS.index(name) for name in group] for group in _GROUPS]
    parts = np.stack([seconds[:, group].sum(axis=1) for group in columns], axis=1)  # [n, 3]
    simulated_s = np.array([example.encoded.step_s[0] for example in examples])
    measured_s = np.array([example.row.step_time_s for example in examples])
    rows = parts / measured_s[:, None] / _NOISE
    errors = (measured_s - simulated_s) / measured_s / _NOISE
    ridge = rows.T @ rows + np.eye(len(_GROUPS)) / _PRIOR**2
    factors = 1 + np.linalg.solve(ridge, rows.T @ errors)
    return PartFactors(*np.clip(factors, _LEAST, _MOST).tolist())


def calibrated(costs: CostTable, factors: PartFactors) -> CostTable:
    """Return the table with every part multiplied; ``source`` stays."""
    return replace(
        costs,
        op_time_s=tuple(time_s * factors.operators for time_s in costs.op_time_s),
        saved_tensor_overhead_s=costs.saved_tensor_overhead_s * factors.hooks,
        recorded_op_overhead_s=costs.recorded_op_overhead_s * factors.hooks,
        d2h_bytes_per_s=costs.d2h_bytes_per_s / factors.copies,
        h2d_bytes_per_s=costs.h2d_bytes_per_s / factors.copies,
        compress_bytes_per_s=costs.compress_bytes_per_s / factors.copies,
        restore_bytes_per_s=costs.restore_bytes_per_s / factors.copies,
    )
