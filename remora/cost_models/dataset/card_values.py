"""The figures of a dataset's card: counts, ranges, noise, and where it was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from remora.cost_models.dataset.dataset import Dataset
from remora.cost_models.dataset.merge import distinct_units, grouped, place
from remora.cost_models.dataset.records import OK, ProfiledRun
from remora.cost_models.dataset.repeatability import repeatability, spread_within
from remora.cost_models.dataset.schema import FORMAT
from remora.graph.signature import op_signature

__all__ = ["GROUPS", "card_values"]

GROUPS: Mapping[str, Callable[[ProfiledRun], str]] = {
    "family": lambda run: run.subject.family,
    "model": lambda run: run.subject.model,
    "dtype": lambda run: run.subject.dtype,
    "hardware": lambda run: run.setting.name,
}
"""What runs are counted by."""


def card_values(dataset: Dataset) -> dict[str, Any]:
    """Return the figures of the card as plain values that JSON can hold.

    Args:
        dataset: with its rounds.

    Returns:
        ``total`` and ``by_family``, ``by_model``, ``by_dtype``, ``by_hardware``: counts;
        ``rounds``; ``repetitions``; ``ranges``: smallest, median and largest;
        ``within``: how far repetitions are from their median; ``between``: how far rounds are
        apart; ``settings``; ``faults``. A relative difference that nothing shows is None.
    """
    runs, rounds = dataset.runs, dataset.rounds
    within_units, within_steps = spread_within(rounds)
    between = asdict(repeatability(rounds))
    return {
        "format": FORMAT,
        "total": _counts(runs),
        **{f"by_{name}": _counts_by(runs, key) for name, key in GROUPS.items()},
        "rounds": sorted({run.round for run in rounds}),
        "repetitions": _repetitions(runs),
        "ranges": _ranges(runs),
        "within": {"units": _plain(asdict(within_units)), "steps": _plain(asdict(within_steps))},
        "between": {
            name: _plain(value) if isinstance(value, dict) else value
            for name, value in between.items()
        },
        "settings": [_setting(group[0]) for group in grouped(runs, place)],
        "faults": list(dataset.faults),
    }


def _counts(runs: Sequence[ProfiledRun]) -> dict[str, int]:
    steps = [step for run in runs for step in run.steps]
    ran = sum(step.status == OK for step in steps)
    return {
        "graphs": len(runs),
        "unit_rows": sum(len(run.units) for run in runs),
        "units": len(distinct_units(runs)),
        "operators": _distinct_operators(runs),
        "steps": ran,
        "failed_steps": len(steps) - ran,
    }


def _counts_by(
    runs: Sequence[ProfiledRun], key: Callable[[ProfiledRun], str]
) -> dict[str, dict[str, int]]:
    groups = {key(group[0]): _counts(group) for group in grouped(runs, key)}
    return dict(sorted(groups.items()))


def _distinct_operators(runs: Sequence[ProfiledRun]) -> int:
    """Operators of measured units that differ in work or layout, views apart, per setting."""
    found: set[tuple[str, ...]] = set()
    for one in distinct_units(runs):
        graph = one.run.graph
        unit = graph.units[one.row.unit]
        for index in (*range(*unit.forward), *range(*unit.backward)):
            if not graph.ops[index].view:
                found.add((*place(one.run), op_signature(graph, graph.ops[index])))
    return len(found)


def _repetitions(runs: Sequence[ProfiledRun]) -> dict[str, int]:
    return {
        "units": sum(len(row.runs.forward_op_s) for run in runs for row in run.units),
        "steps": sum(len(step.step_times_s) for run in runs for step in run.steps),
    }


def _ranges(runs: Sequence[ProfiledRun]) -> dict[str, list[float]]:
    steps = [step for run in runs for step in run.steps if step.status == OK]
    figures: Mapping[str, Sequence[float]] = {
        "units_per_graph": [len(run.graph.units) for run in runs],
        "operators_per_graph": [len(run.graph.ops) for run in runs],
        "unit_time_s": [one.row.unit_s for one in distinct_units(runs)],
        "step_time_s": [step.step_time_s for step in steps],
        "peak_memory_bytes": [step.peak_memory_bytes for step in steps],
    }
    return {
        name: [min(values), statistics.median(values), max(values)]
        for name, values in figures.items()
        if values
    }


def _setting(run: ProfiledRun) -> dict[str, Any]:
    """Where a run was measured, with the rates of its device."""
    setting = run.setting
    hardware = setting.hardware
    return {
        "hardware": setting.name,
        "machine": setting.machine,
        "torch": setting.torch,
        "python": setting.python,
        "memory_bytes": hardware.memory_bytes,
        "flops_per_s": dict(hardware.flops_per_s),
        "memory_bandwidth_bytes_per_s": hardware.memory_bandwidth_bytes_per_s,
        "kernel_launch_s": hardware.kernel_launch_s,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN is no JSON."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }
