"""How far a machine repeats itself: no cost model can be better than that."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from remora.cost_models.dataset.merge import grouped, run_key
from remora.cost_models.dataset.records import OK, ProfiledRun, StepRow
from remora.hardware.measurements import measured_s

__all__ = ["Agreement", "Repeatability", "repeatability", "spread_within"]


@dataclass(frozen=True)
class Agreement:
    """Relative differences between two measurements of the same thing.

    Attributes:
        count: how many there are.
        median: of |ratio - 1|; NaN where there are none.
        p90: their 90th percentile.
    """

    count: int
    median: float
    p90: float


@dataclass(frozen=True)
class Repeatability:
    """What two rounds show of the same subjects in the same setting.

    Attributes:
        pairs: how many runs were compared with one of another round.
        unit_time: medians of unit kinds, forward and backward together.
        step_time: medians of steps under the same schedule.
        peak_memory: peaks of these steps.
        step_ratio: time of a step over that of its units, which is what a correction of the
            simulator has to learn; a drift of the whole machine between rounds cancels.
        drift: median ratio of all times of a run: how much faster or slower the whole machine was.
    """

    pairs: int
    unit_time: Agreement
    step_time: Agreement
    peak_memory: Agreement
    step_ratio: Agreement
    drift: Agreement


def repeatability(rounds: Iterable[ProfiledRun]) -> Repeatability:
    """Compare runs of the same subject and setting with each other, every pair of rounds.

    Args:
        rounds: not merged, as in :attr:`Dataset.rounds`.
    """
    pairs = [
        pair for group in grouped(rounds, run_key) for pair in itertools.combinations(group, 2)
    ]
    units = [_unit_ratios(*pair) for pair in pairs]
    steps = [_step_pairs(*pair) for pair in pairs]
    times = [[b.step_time_s / a.step_time_s for a, b in found] for found in steps]
    return Repeatability(
        pairs=len(pairs),
        unit_time=_agreement(_flat(units)),
        step_time=_agreement(_flat(times)),
        peak_memory=_agreement(
            b.peak_memory_bytes / a.peak_memory_bytes for found in steps for a, b in found
        ),
        step_ratio=_agreement(
            ratio / _units_ratio(*pair)
            for pair, found in zip(pairs, times, strict=True)
            for ratio in found
            if _units_ratio(*pair) > 0
        ),
        drift=_agreement(
            statistics.median(together) for together in map(list.__add__, units, times) if together
        ),
    )


def spread_within(rounds: Iterable[ProfiledRun]) -> tuple[Agreement, Agreement]:
    """Return how far single repetitions are from the median of their run.

    Returns:
        Of units (forward and backward together), and of steps.
    """
    units: list[float] = []
    steps: list[float] = []
    for run in rounds:
        for row in run.units:
            pairs = zip(row.runs.forward_op_s, row.runs.backward_op_s, strict=True)
            units += _ratios_to_median([measured_s(f) + measured_s(b) for f, b in pairs])
        for step in _that_ran(run):
            steps += _ratios_to_median(step.step_times_s)
    return _agreement(units), _agreement(steps)


def _unit_ratios(first: ProfiledRun, second: ProfiledRun) -> list[float]:
    before = {row.kind: row.unit_s for row in first.units}
    return [
        row.unit_s / before[row.kind]
        for row in second.units
        if before.get(row.kind, 0.0) > 0 and row.unit_s > 0
    ]


def _units_ratio(first: ProfiledRun, second: ProfiledRun) -> float:
    """Time of all units of the model in the second run over that in the first; 0 if unknown."""
    before = {row.kind: row.unit_s for row in first.units}
    after = {row.kind: row.unit_s for row in second.units}
    kinds = [unit.kind for unit in first.graph.units if unit.kind in before and unit.kind in after]
    total_s = sum(before[kind] for kind in kinds)
    return sum(after[kind] for kind in kinds) / total_s if total_s > 0 else 0.0


def _step_pairs(first: ProfiledRun, second: ProfiledRun) -> list[tuple[StepRow, StepRow]]:
    before = {(step.schedule_json, step.optimizer): step for step in _that_ran(first)}
    return [
        (before[step.schedule_json, step.optimizer], step)
        for step in _that_ran(second)
        if (step.schedule_json, step.optimizer) in before
    ]


def _that_ran(run: ProfiledRun) -> Iterator[StepRow]:
    return (step for step in run.steps if step.status == OK)


def _ratios_to_median(times_s: Sequence[float]) -> list[float]:
    median_s = statistics.median(times_s)
    return [time_s / median_s for time_s in times_s] if median_s > 0 else []


def _flat(lists: Iterable[Sequence[float]]) -> Iterator[float]:
    return itertools.chain.from_iterable(lists)


def _agreement(ratios: Iterable[float]) -> Agreement:
    differences = sorted(abs(ratio - 1) for ratio in ratios)
    if not differences:
        return Agreement(0, math.nan, math.nan)
    p90 = differences[min(len(differences) - 1, int(0.9 * len(differences)))]
    return Agreement(len(differences), statistics.median(differences), p90)
