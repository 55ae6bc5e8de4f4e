"""Predicted against measured time and peak memory, schedule by schedule."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.gpu_campaign.plans import LABELS, plan_named
from benchmarks.gpu_campaign.subject import Item, Items, NotAsked, Subject
from remora.cost_models.roofline import roofline_op_time_s
from remora.graph.model_graph import BACKWARD, FORWARD, Unit
from remora.graph.signature import op_signature
from remora.hardware.measurements import UnitTimes

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
    first_of_kind = {unit.kind: unit for unit in reversed(graph.units)}
    for kind, times in found.units.items():
        subject.journal.rows("operators", _operator_rows(subject, first_of_kind[kind], times))
    times_s = subject.problem.cost.op_time_s
    return {
        "measuring_s": time.perf_counter() - start_s,
        "units": len(graph.units),
        "measured_kinds": len(found.units),
        "kinds": len(first_of_kind),
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


def _operator_rows(subject: Subject, unit: Unit, times: UnitTimes) -> list[dict[str, Any]]:
    rows = []
    phases = (
        (FORWARD, unit.forward, times.forward_op_s),
        (BACKWARD, unit.backward, times.backward_op_s),
    )
    for phase, (start, end), op_times in phases:
        for index, time_s in zip(range(start, end), op_times, strict=True):
            place = {"unit_kind": unit.kind, "unit": unit.index, "phase": phase}
            rows.append(
                place
                | {"position": index - start, "time_s": time_s, "repetitions": times.repetitions}
                | _operator(subject, index)
            )
    return rows


def _operator(subject: Subject, index: int) -> dict[str, Any]:
    graph = subject.graph
    op = graph.ops[index]
    tensors = (*op.inputs, *op.outputs)
    signature = op_signature(graph, op)
    return {
        "graph_hash": graph.content_hash,
        "op": op.name,
        "signature": signature,
        "dtype": graph.tensors[tensors[0]].dtype if tensors else "",
        "flops": float(op.flops),
        "bytes_read": op.bytes_read,
        "bytes_written": op.bytes_written,
        "roofline_s": roofline_op_time_s(graph, op, subject.hardware),
        "workspace_bytes": subject.measurements.workspace_bytes.get(signature),
        "device": subject.hardware.name,
        "torch": subject.torch_version,
    }
