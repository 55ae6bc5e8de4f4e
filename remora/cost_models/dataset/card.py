"""The card of a dataset: what is in it, where it was measured, and how far it repeats itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from remora.cost_models.dataset.dataset import Dataset
from remora.cost_models.dataset.merge import distinct_units, grouped
from remora.cost_models.dataset.records import OK, ProfiledRun
from remora.cost_models.dataset.repeatability import repeatability, spread_within
from remora.cost_models.dataset.schema import COLUMNS, FORMAT
from remora.graph.signature import op_signature

__all__ = ["card_values", "dataset_card"]

_GROUPS: Mapping[str, Callable[[ProfiledRun], str]] = {
    "family": lambda run: run.subject.family,
    "model": lambda run: run.subject.model,
    "dtype": lambda run: run.subject.dtype,
    "hardware": lambda run: run.setting.name,
}

_AGREEMENTS = {
    "unit_time": "time of a unit",
    "step_time": "time of a step",
    "peak_memory": "peak memory of a step",
    "step_ratio": "time of a step over that of its units",
    "drift": "all times of a run together",
}


def card_values(dataset: Dataset) -> dict[str, Any]:
    """Return the figures of the card as plain values.

    Args:
        dataset: with its rounds.

    Returns:
        ``total`` and ``by_<family|model|dtype|hardware>``: counts; ``repetitions``; ``within``:
        how far repetitions are from their median; ``between``: how far rounds are apart;
        ``settings``; ``faults``. Relative differences where there are none are None.
    """
    runs, rounds = dataset.runs, dataset.rounds
    within_units, within_steps = spread_within(rounds)
    between = asdict(repeatability(rounds))
    return {
        "format": FORMAT,
        "total": _counts(runs),
        **{f"by_{name}": _counts_by(runs, key) for name, key in _GROUPS.items()},
        "rounds": sorted({run.round for run in rounds}),
        "repetitions": _repetitions(runs),
        "within": {"units": _plain(asdict(within_units)), "steps": _plain(asdict(within_steps))},
        "between": {
            name: _plain(value) if isinstance(value, dict) else value
            for name, value in between.items()
        },
        "settings": _settings(runs),
        "faults": list(dataset.faults),
    }


def dataset_card(dataset: Dataset, title: str = "Profiled runs") -> str:
    """Return the card as Markdown.

    Args:
        dataset: with its rounds.
        title: of the card.
    """
    values = card_values(dataset)
    total, repetitions = values["total"], values["repetitions"]
    parts = [
        f"# {title}",
        f"{total['graphs']} traced training steps of {len(values['by_model'])} architectures, "
        f"{total['units']} kinds of units with {total['operators']} distinct operators, and "
        f"{total['steps']} steps under a schedule that ran. {repetitions['units']} repetitions of "
        f"units and {repetitions['steps']} of steps are kept, in rounds "
        f"{', '.join(map(str, values['rounds']))}.",
        "A shard is an immutable Parquet file: one run of one subject in one setting.",
        *(_counts_table(name, values[f"by_{name}"]) for name in _GROUPS),
        "## Where it was measured",
        _table(("hardware", "machine", "torch", "python"), values["settings"]),
        "## Noise within a run",
        "How far single repetitions are from the median of their run, as |ratio - 1|.",
        _agreement_table({"unit": values["within"]["units"], "step": values["within"]["steps"]}),
        "## Repeatability",
        *_between(values["between"]),
        f"## Columns (format {FORMAT})",
        _table(("column", "kind", "meaning"), ((n, k, text) for n, (k, text) in COLUMNS.items())),
    ]
    if values["faults"]:
        parts += ["## Skipped", "\n".join(f"- {fault}" for fault in values["faults"])]
    return "\n\n".join(parts) + "\n"


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
    found: set[tuple[str, str]] = set()
    for one in distinct_units(runs):
        graph = one.run.graph
        unit = graph.units[one.row.unit]
        for index in (*range(*unit.forward), *range(*unit.backward)):
            if not graph.ops[index].view:
                found.add((one.run.setting.name, op_signature(graph, graph.ops[index])))
    return len(found)


def _repetitions(runs: Sequence[ProfiledRun]) -> dict[str, int]:
    return {
        "units": sum(len(row.runs.forward_op_s) for run in runs for row in run.units),
        "steps": sum(len(step.step_times_s) for run in runs for step in run.steps),
    }


def _settings(runs: Sequence[ProfiledRun]) -> list[list[str]]:
    settings = (run.setting for run in runs)
    rows = {(s.name, s.machine, s.torch, s.python) for s in settings}
    return [list(row) for row in sorted(rows)]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN is no JSON."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }


def _between(values: Mapping[str, Any]) -> list[str]:
    if not values["pairs"]:
        return ["Nothing was measured in two rounds."]
    table = _agreement_table({words: values[name] for name, words in _AGREEMENTS.items()})
    words = (
        f"{values['pairs']} pairs of runs of the same subject in different rounds, as |ratio - 1| "
        "of their medians. No cost model can be expected to be nearer than this."
    )
    return [words, table]


def _agreement_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return _table(
        ("of", "count", "median", "90th percentile"),
        ((w, str(v["count"]), _percent(v["median"]), _percent(v["p90"])) for w, v in rows.items()),
    )


def _counts_table(name: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    columns = ("graphs", "unit_rows", "units", "operators", "steps", "failed_steps")
    words = ("graphs", "unit rows", "distinct units", "distinct operators", "steps", "failed")
    rows = ([key, *(str(values[column]) for column in columns)] for key, values in counts.items())
    return f"## By {name}\n\n{_table((name, *words), rows)}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
