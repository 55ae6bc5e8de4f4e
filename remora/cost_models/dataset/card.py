"""The card of a dataset as Markdown: what is in it, where it was measured, how far it repeats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from remora.cost_models.dataset.card_values import GROUPS, card_values
from remora.cost_models.dataset.dataset import Dataset
from remora.cost_models.dataset.schema import COLUMNS, FORMAT, arrow_schema

__all__ = ["dataset_card"]

_AGREEMENTS = {
    "unit_time": "time of a unit",
    "step_time": "time of a step",
    "peak_memory": "peak memory of a step",
    "step_ratio": "time of a step over that of its units",
    "drift": "all times of a run together",
}

_COUNTS = {
    "graphs": "graphs",
    "unit_rows": "unit rows",
    "units": "distinct units",
    "operators": "distinct operators",
    "steps": "steps",
    "failed_steps": "failed",
}

# What a figure is called, and what its unit of measure is a part of.
_RANGES = {
    "units_per_graph": ("units of a graph", 1.0),
    "operators_per_graph": ("operators of a graph", 1.0),
    "unit_time_s": ("time of a unit, ms", 1e-3),
    "step_time_s": ("time of a step, ms", 1e-3),
    "peak_memory_bytes": ("peak memory of a step, MB", 1e6),
}

_READING = """\
A shard is an immutable Parquet file: one run of one subject in one setting, with one row for the
traced graph, one per kind of unit and one per schedule. Times are seconds, sizes bytes. Other
processes may add shards while the folder is read.

```python
from pathlib import Path

from remora.cost_models.dataset.dataset import read_dataset

dataset = read_dataset(Path("FOLDER"))
for run in dataset.runs:
    print(run.subject.model, run.subject.batch, [step.step_time_s for step in run.steps])
```"""


def dataset_card(dataset: Dataset, title: str = "Profiled runs", about: str = "") -> str:
    """Return the card as Markdown; its figures are those of ``card_values``.

    Args:
        dataset: with its rounds.
        title: of the card.
        about: how and when it was collected, in Markdown.
    """
    values = card_values(dataset)
    parts = [
        f"# {title}",
        _overview(values),
        about,
        "## How to read it",
        _READING,
        *(_counts_table(name, values[f"by_{name}"]) for name in GROUPS),
        "## Ranges",
        _ranges_table(values["ranges"]),
        "## Where it was measured",
        _settings_table(values["settings"]),
        "## Noise within a run",
        "How far single repetitions are from the median of their run, as |ratio - 1|.",
        _agreement_table({"unit": values["within"]["units"], "step": values["within"]["steps"]}),
        "## Repeatability",
        *_between(values["between"]),
        f"## Columns (format {FORMAT})",
        _columns_table(),
        *_faults(values["faults"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(values: Mapping[str, Any]) -> str:
    total, repetitions = values["total"], values["repetitions"]
    return (
        f"{total['graphs']} traced training steps of {len(values['by_model'])} architectures, "
        f"{total['units']} kinds of units with {total['operators']} distinct operators, and "
        f"{total['steps']} steps under a schedule that ran. {repetitions['units']} repetitions of "
        f"units and {repetitions['steps']} of steps are kept, of rounds "
        f"{', '.join(map(str, values['rounds']))}."
    )


def _counts_table(name: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    rows = ([key, *(str(values[column]) for column in _COUNTS)] for key, values in counts.items())
    return f"## By {name}\n\n{_table((name, *_COUNTS.values()), rows)}"


def _ranges_table(ranges: Mapping[str, Sequence[float]]) -> str:
    rows = (
        [words, *(f"{value / part:.4g}" for value in ranges[name])]
        for name, (words, part) in _RANGES.items()
        if name in ranges
    )
    return _table(("of", "smallest", "median", "largest"), rows)


def _settings_table(settings: Iterable[Mapping[str, Any]]) -> str:
    head = ("hardware", "machine", "torch", "python", "memory, GB", "float32, GFLOP/s", "GB/s")
    rows = (
        [
            *(one[name] for name in ("hardware", "machine", "torch", "python")),
            f"{one['memory_bytes'] / 1e9:.4g}",
            f"{one['flops_per_s']['float32'] / 1e9:.4g}",
            f"{one['memory_bandwidth_bytes_per_s'] / 1e9:.4g}",
        ]
        for one in settings
    )
    return _table(head, rows)


def _between(values: Mapping[str, Any]) -> list[str]:
    if not values["pairs"]:
        return ["Nothing was measured in two rounds."]
    words = (
        f"Pairs of runs of the same subject in different rounds: {values['pairs']}; |ratio - 1| of "
        "their medians. Both rounds have their own error, so a perfect model would be off a single "
        "round by about 0.7 of this."
    )
    table = _agreement_table({words: values[name] for name, words in _AGREEMENTS.items()})
    return [words, table]


def _agreement_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return _table(
        ("of", "count", "median", "90th percentile"),
        ((w, str(v["count"]), _percent(v["median"]), _percent(v["p90"])) for w, v in rows.items()),
    )


def _columns_table() -> str:
    types = {field.name: str(field.type) for field in arrow_schema()}
    rows = ((name, types[name], meaning) for name, (_, meaning) in COLUMNS.items())
    return _table(("column", "type", "meaning"), rows)


def _faults(faults: Sequence[str]) -> list[str]:
    return ["## Skipped", "\n".join(f"- {fault}" for fault in faults)] if faults else []


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
