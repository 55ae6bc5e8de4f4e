"""Several measurements of one subject as one run, and what was measured twice only once."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from remora.cost_models.dataset.records import OK, ProfiledRun, StepRow, UnitRow
from remora.hardware.measurements import Measurements, Overheads, UnitRuns, measured_s

__all__ = ["DistinctUnit", "distinct_units", "grouped", "merge_runs", "place", "run_key"]

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class DistinctUnit:
    """One kind of unit in one setting, with the repetitions of all graphs that have it.

    Attributes:
        run: the first that has it; its graph holds the operators of ``row.unit``.
        row: all repetitions.
    """

    run: ProfiledRun
    row: UnitRow


def place(run: ProfiledRun) -> tuple[str, ...]:
    """Device, threads, version and machine: runs of equal ones are comparable."""
    setting = run.setting
    return (setting.name, setting.torch, setting.machine)


def run_key(run: ProfiledRun) -> tuple[str, ...]:
    """What is equal for the same subject in the same setting, whatever the round."""
    return (run.subject.key, run.graph.content_hash, *place(run))


def grouped(items: Iterable[_Item], key: Callable[[_Item], Hashable]) -> list[list[_Item]]:
    """Group items by key; groups stand in the order of their first items."""
    groups: dict[Hashable, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def merge_runs(runs: Sequence[ProfiledRun]) -> ProfiledRun:
    """Put runs of one subject in one setting together.

    Repetitions of a unit kind are concatenated, and so are those of a step under the same
    schedule and optimizer; what two of the runs have in common counts once. Subject, hardware
    and graph are those of the first; peaks, overheads and the optimizer's time are medians.

    Args:
        runs: at least one; of equal :func:`run_key`.
    """
    first = runs[0]
    units = grouped((row for run in runs for row in run.units), lambda row: row.kind)
    steps = grouped(
        (step for run in runs for step in run.steps),
        lambda step: (step.schedule_json, step.optimizer, step.status),
    )
    return replace(
        first,
        measurements=_merge_measurements([run.measurements for run in runs]),
        units=tuple(_merge_units(rows) for rows in units),
        steps=tuple(_merge_steps(rows) for rows in steps),
        round=min(run.round for run in runs),
    )


def distinct_units(runs: Iterable[ProfiledRun]) -> tuple[DistinctUnit, ...]:
    """Return every kind of unit once per setting, with the repetitions of all of its graphs.

    Kinds of which no operator could be measured are left out.
    """
    pairs = [(run, row) for run in runs for row in run.units if row.unit_s > 0]
    groups = grouped(pairs, lambda pair: (pair[1].kind, *place(pair[0])))
    return tuple(
        DistinctUnit(group[0][0], _merge_units([row for _, row in group])) for group in groups
    )


def _merge_units(rows: Sequence[UnitRow]) -> UnitRow:
    # NaN is not equal to itself, so repeated ones are told by their sums.
    different = _different([row.runs for row in rows], _sums_s)
    if len(different) == 1:
        return rows[0]
    return replace(
        rows[0],
        runs=UnitRuns(
            forward_op_s=tuple(times_s for runs in different for times_s in runs.forward_op_s),
            backward_op_s=tuple(times_s for runs in different for times_s in runs.backward_op_s),
            notes=tuple(dict.fromkeys(note for runs in different for note in runs.notes)),
        ),
    )


def _merge_steps(rows: Sequence[StepRow]) -> StepRow:
    different = _different([(row.step_times_s, row.peak_memory_bytes) for row in rows], repr)
    if rows[0].status != OK or len(different) == 1:
        return rows[0]
    return replace(
        rows[0],
        step_times_s=tuple(time_s for times_s, _ in different for time_s in times_s),
        peak_memory_bytes=round(statistics.median(peak_bytes for _, peak_bytes in different)),
    )


def _different(items: Sequence[_Item], key: Callable[[_Item], Hashable]) -> list[_Item]:
    """Keep the first item of every key."""
    return [group[0] for group in grouped(items, key)]


def _sums_s(runs: UnitRuns) -> tuple[float, ...]:
    return tuple(measured_s(times_s) for times_s in (*runs.forward_op_s, *runs.backward_op_s))


def _merge_measurements(measurements: Sequence[Measurements]) -> Measurements:
    different = _different(measurements, repr)
    first = different[0]
    if len(different) == 1:
        return first
    overheads = [asdict(one.overheads) for one in different]
    same_optimizer = [one for one in different if one.optimizer == first.optimizer]
    return replace(
        first,
        workspace_bytes={
            signature: num_bytes
            for one in reversed(different)
            for signature, num_bytes in one.workspace_bytes.items()
        },
        overheads=Overheads(**{name: _middle(o[name] for o in overheads) for name in overheads[0]}),
        optimizer_s=statistics.median(one.optimizer_s for one in same_optimizer),
        notes=tuple(dict.fromkeys(note for one in different for note in one.notes)),
    )


def _middle(values: Iterable[float]) -> float:
    """Median of the figures that were measured; 0 says that one was not."""
    measured = [value for value in values if value]
    return statistics.median(measured) if measured else 0.0
