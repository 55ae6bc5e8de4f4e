"""Measured units as training examples: every kind once per setting, repetitions of kinds merged.

Legend: N operators of a unit (its forward, then its backward).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.dataset.records import ProfiledRun, UnitRow
from remora.cost_models.gnn.op_encoder import UnitEncoder
from remora.cost_models.gnn.op_features import UnitFeatures, unit_ops
from remora.graph.model_graph import Unit
from remora.graph.signature import op_signature

__all__ = ["UnitExample", "unit_examples"]


_STEADY_QUANTILE = 0.35
"""Of an operator's repetitions. Slow ones are interruptions and first touches of memory: on a
shared machine two rounds differ by half as much in this figure as in the median."""


@dataclass(frozen=True, slots=True)
class UnitExample:
    """One kind of unit in one setting.

    Attributes:
        kind: content hash of the unit.
        family: of the first subject that has it.
        model: of that subject.
        features: of its operators.
        times_s: medians of what was measured, NaN where there is nothing.  # [N]
        steady_s: what to learn from: figures that repeat better than medians, scaled so that
            units take as long on the whole.  # [N]
        workspace_bytes: measured bytes beyond the results.  # [N]
    """

    kind: str
    family: str
    model: str
    features: UnitFeatures
    times_s: NDArray[np.float64]
    steady_s: NDArray[np.float64]
    workspace_bytes: NDArray[np.float64]

    @property
    def unit_s(self) -> float:
        """Seconds of all operators that were measured."""
        return float(np.nansum(self.times_s))


def unit_examples(
    runs: Iterable[ProfiledRun], encoder: UnitEncoder | None = None
) -> list[UnitExample]:
    """Return all measured units; a kind that several runs of a setting have is there once.

    Args:
        runs: in any order, which is kept.
        encoder: remembers units that were encoded before; None encodes all of them.
    """
    encoder = encoder or UnitEncoder()
    rows: dict[tuple[str, str], list[tuple[ProfiledRun, UnitRow]]] = {}
    for run in runs:
        for row in run.units:
            rows.setdefault((run.setting.name, row.kind), []).append((run, row))
    examples = []
    for (_, kind), found in rows.items():
        run, row = found[0]
        repetitions = np.concatenate([_repetitions(row) for _, row in found])
        times_s = _medians([row for _, row in found])
        if not np.isfinite(times_s).any():
            continue
        unit = run.graph.units[row.unit]
        examples.append(
            UnitExample(
                kind=kind,
                family=run.subject.family,
                model=run.subject.model,
                features=encoder.unit(run.graph, unit, run.setting.hardware),
                times_s=times_s,
                steady_s=np.quantile(repetitions, _STEADY_QUANTILE, axis=0),
                workspace_bytes=_workspace_bytes(run, unit),
            )
        )
    return _scaled(examples)


def _repetitions(row: UnitRow) -> NDArray[np.float64]:
    """Seconds of all repetitions.  # [repetitions, N]."""
    return np.hstack([np.array(row.runs.forward_op_s), np.array(row.runs.backward_op_s)])


def _medians(rows: Sequence[UnitRow]) -> NDArray[np.float64]:
    """Geometric mean of the medians of several measurements.  # [N]."""
    measured = []
    for row in rows:
        times = row.runs.times()
        both = (*times.forward_op_s, *times.backward_op_s)
        measured.append([math.nan if time_s is None else time_s for time_s in both])
    return np.asarray(np.exp(np.mean(np.log(np.array(measured)), axis=0)))


def _scaled(examples: Sequence[UnitExample]) -> list[UnitExample]:
    """Scale the steady figures by one factor, so that half of the units take as long or longer."""
    if not examples:
        return []
    ratios = [example.unit_s / float(np.nansum(example.steady_s)) for example in examples]
    factor = statistics.median(ratios)
    return [replace(example, steady_s=factor * example.steady_s) for example in examples]


def _workspace_bytes(run: ProfiledRun, unit: Unit) -> NDArray[np.float64]:
    known = run.measurements.workspace_bytes
    ops = unit_ops(run.graph, unit)
    return np.array(
        [0.0 if op.view else float(known.get(op_signature(run.graph, op), 0)) for op in ops]
    )
