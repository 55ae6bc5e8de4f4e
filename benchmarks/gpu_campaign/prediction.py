"""Predicted against measured time and peak memory, schedule by schedule."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.gpu_campaign.plans import LABELS, plan_named
from benchmarks.gpu_campaign.rows import measurement_row, operator_rows
from benchmarks.gpu_campaign.subject import Item, Items, NotAsked, Subject

__all__ = ["prediction"]


def prediction(subject: Subject) -> Items:
    """Measure the operators, then predict and run every plan."""
    yield Item("costs", partial(_costs, subject), least_s=15.0)
    yield from (
        Item(label, partial(_run, subject, label)) for label in subject.part.plans or LABELS
    )


def _costs(subject: Subject) -> Mapping[str, Any]:
    """Measure operators; their rows go to the dataset."""
    start_s = time.perf_counter()
    found = subject.measurements
    graph = subject.graph
    subject.journal.rows("measurements", [measurement_row(graph, subject.hardware, found)])
    subject.journal.rows("operators", operator_rows(graph, subject.hardware, found))
    times_s = subject.problem.cost.op_time_s
    return {
        "measuring_s": time.perf_counter() - start_s,
        "units": len(graph.units),
        "measured_kinds": len(found.units),
        "kinds": len({unit.kind for unit in graph.units}),
        "operators": len(graph.ops),
        "operators_s": sum(times_s),
        "optimizer_s": found.optimizer_s,
        "notes": [f"{count} x {note}" for note, count in Counter(found.notes).most_common(8)],
    }


def _run(subject: Subject, label: str) -> Mapping[str, Any]:
    schedule = plan_named(subject, label)
    same = subject.run_as.setdefault(schedule, label)
    if same != label:
        raise NotAsked(f"it is the plan {same!r}")
    figures = subject.run_schedule("prediction", label, schedule)
    return figures | {
        "time_error": figures["predicted_step_time_s"] / figures["step_time_s"] - 1,
        "peak_error": figures["predicted_peak_bytes"] / figures["step_peak_bytes"] - 1,
        "reserved_error": figures["predicted_peak_bytes"] / figures["peak_reserved_bytes"] - 1,
    }
