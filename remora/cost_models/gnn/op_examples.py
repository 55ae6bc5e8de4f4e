"""Measured units as training examples: every kind once per setting, repetitions of kinds merged.

Legend: N operators of a unit (its forward, then its backward).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.dataset.records import ProfiledRun, UnitRow
from remora.cost_models.gnn.op_context import storage_ends
from remora.cost_models.gnn.op_features import UnitFeatures, encode_unit, unit_ops
from remora.graph.model_graph import Unit
from remora.graph.signature import op_signature

__all__ = ["UnitExample", "unit_examples"]


@dataclass(frozen=True, slots=True)
class UnitExample:
    """One kind of unit in one setting.

    Attributes:
        kind: content hash of the unit.
        family: of the first subject that has it.
        model: of that subject.
        features: of its operators.
        times_s: measured seconds, NaN where there are none.  # [N]
        workspace_bytes: measured bytes beyond the results.  # [N]
    """

    kind: str
    family: str
    model: str
    features: UnitFeatures
    times_s: NDArray[np.float64]
    workspace_bytes: NDArray[np.float64]

    @property
    def unit_s(self) -> float:
        """Seconds of all operators that were measured."""
        return float(np.nansum(self.times_s))


def unit_examples(runs: Iterable[ProfiledRun]) -> list[UnitExample]:
    """Return all measured units; a kind that several runs of a setting have is there once.

    Args:
        runs: in any order, which is kept.
    """
    rows: dict[tuple[str, str], list[tuple[ProfiledRun, UnitRow]]] = {}
    for run in runs:
        for row in run.units:
            rows.setdefault((run.setting.name, row.kind), []).append((run, row))
    ends: dict[int, list[int]] = {}
    examples = []
    for (_, kind), found in rows.items():
        run, row = found[0]
        if id(run) not in ends:
            ends[id(run)] = storage_ends(run.graph)
        unit = run.graph.units[row.unit]
        features = encode_unit(run.graph, unit, ends[id(run)], run.setting.hardware)
        times_s = _merged([_measured(row) for _, row in found])
        if np.isfinite(times_s).any():
            family, model = run.subject.family, run.subject.model
            workspace = _workspace_bytes(run, unit)
            examples.append(UnitExample(kind, family, model, features, times_s, workspace))
    return examples


def _measured(row: UnitRow) -> list[float]:
    times = row.runs.times()
    both = (*times.forward_op_s, *times.backward_op_s)
    return [math.nan if time_s is None else time_s for time_s in both]


def _workspace_bytes(run: ProfiledRun, unit: Unit) -> NDArray[np.float64]:
    known = run.measurements.workspace_bytes
    ops = unit_ops(run.graph, unit)
    return np.array(
        [0.0 if op.view else float(known.get(op_signature(run.graph, op), 0)) for op in ops]
    )


def _merged(measured: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Geometric mean of what several runs show.  # [N]."""
    return np.asarray(np.exp(np.mean(np.log(np.array(measured)), axis=0)))
