"""How far predicted times of units are from measured ones, and those from each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from remora.cost_models.dataset.records import ProfiledRun, UnitRow
from remora.cost_models.gnn.op_times import OpTimePredictor, OpTimes
from remora.hardware.measurements import measured_s

__all__ = [
    "OpError",
    "UnitError",
    "median_errors",
    "repetition_noise",
    "unit_errors",
    "worst_operators",
]


@dataclass(frozen=True, slots=True)
class UnitError:
    """One distinct kind of unit: predicted and measured seconds of forward and backward.

    Only operators that could be measured count on both sides.
    """

    family: str
    model: str
    kind: str
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Relative error, positive where too long a time is predicted."""
        return self.predicted_s / self.measured_s - 1.0


@dataclass(frozen=True, slots=True)
class OpError:
    """What one operator name does to the errors of units.

    Attributes:
        name: overload name.
        count: operators of this name.
        absolute: sum of absolute errors as a share of the unit's time, mean over all units.
        signed: the same with signs.
    """

    name: str
    count: int
    absolute: float
    signed: float


def unit_errors(model: OpTimePredictor, runs: Iterable[ProfiledRun]) -> list[UnitError]:
    """Predict the units of profiled runs; a kind counts once per setting.

    Args:
        model: predicts operator times.
        runs: with measured units.
    """
    found = []
    for run, rows in _distinct_rows(runs):
        told = model.op_times_s(run.graph, run.setting.hardware)
        subject = run.subject
        for row in rows:
            pairs = _pairs(run, row, told)
            predicted, measured = sum(p for _, p, _ in pairs), sum(m for _, _, m in pairs)
            if measured > 0:
                found.append(
                    UnitError(subject.family, subject.model, row.kind, predicted, measured)
                )
    return found


def median_errors(
    errors: Sequence[UnitError], group: Callable[[UnitError], str] = lambda e: e.family
) -> dict[str, float]:
    """Return the median absolute error by family, or by another group."""
    groups: dict[str, list[float]] = {}
    for error in errors:
        groups.setdefault(group(error), []).append(abs(error.error))
    return {name: statistics.median(found) for name, found in sorted(groups.items())}


def worst_operators(model: OpTimePredictor, runs: Iterable[ProfiledRun]) -> list[OpError]:
    """Return what every operator name adds to the errors of units, the worst first.

    Args:
        model: predicts operator times.
        runs: with measured units.
    """
    sums: dict[str, list[float]] = {}
    num_units = 0
    for run, rows in _distinct_rows(runs):
        told = model.op_times_s(run.graph, run.setting.hardware)
        for row in rows:
            num_units += 1
            pairs = _pairs(run, row, told)
            unit_s = sum(measured for _, _, measured in pairs) or 1.0
            for name, predicted, measured in pairs:
                entry = sums.setdefault(name, [0.0, 0.0, 0.0])
                entry[0] += 1
                entry[1] += abs(predicted - measured) / unit_s
                entry[2] += (predicted - measured) / unit_s
    found = [
        OpError(name, int(count), absolute / num_units, signed / num_units)
        for name, (count, absolute, signed) in sums.items()
    ]
    return sorted(found, key=lambda error: -error.absolute)


def repetition_noise(runs: Iterable[ProfiledRun]) -> float:
    """Return the median deviation of single repetitions of units from their median.

    No model can be told apart from a better one below this, divided by the root of the number of
    repetitions.
    """
    deviations = []
    for _, rows in _distinct_rows(runs):
        for row in rows:
            pairs = zip(row.runs.forward_op_s, row.runs.backward_op_s, strict=True)
            sums = [measured_s(forward) + measured_s(backward) for forward, backward in pairs]
            middle = statistics.median(sums)
            deviations += [abs(value / middle - 1.0) for value in sums if middle > 0]
    return statistics.median(deviations or [0.0])


def _distinct_rows(
    runs: Iterable[ProfiledRun],
) -> Iterable[tuple[ProfiledRun, list[UnitRow]]]:
    """Yield runs with those of their units that no earlier run of the setting had."""
    seen: set[tuple[str, str]] = set()
    for run in runs:
        rows = [row for row in run.units if (run.setting.name, row.kind) not in seen]
        seen |= {(run.setting.name, row.kind) for row in rows}
        if rows:
            yield run, rows


def _pairs(run: ProfiledRun, row: UnitRow, told: OpTimes) -> list[tuple[str, float, float]]:
    """Name, predicted and measured seconds of every operator that could be measured."""
    unit = run.graph.units[row.unit]
    times = row.runs.times()
    indices = (*range(*unit.forward), *range(*unit.backward))
    return [
        (run.graph.ops[i].name, float(told.times_s[i]), measured)
        for i, measured in zip(indices, (*times.forward_op_s, *times.backward_op_s), strict=True)
        if measured is not None and math.isfinite(measured)
    ]
