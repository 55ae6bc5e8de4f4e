"""Rows of the dataset: graphs, measured operators, steps that are about to be measured."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from typing import Any

import torch

from remora.api.model_source import ModelSource
from remora.cost_models.dataset.rows import hardware_values
from remora.cost_models.roofline import roofline_op_time_s
from remora.graph.model_graph import BACKWARD, FORWARD, ModelGraph, Unit
from remora.graph.serialize import graph_to_json
from remora.graph.signature import op_signature
from remora.hardware.hardware import Hardware
from remora.hardware.local import device_name
from remora.hardware.measurements import Measurements
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.schedule.serialize import schedule_to_json
from remora.simulator.records import Estimate

__all__ = ["graph_row", "measurement_row", "operator_rows", "step_row"]


def graph_row(graph: ModelGraph, source: ModelSource, batch: int) -> dict[str, Any]:
    """A traced step and how its model is built."""
    return {
        "graph_hash": graph.content_hash,
        "model": graph.model_name,
        "target": source.target,
        "values_json": json.dumps(dict(source.values)),
        "batch": batch,
        "torch": str(torch.__version__),
        "graph_json": graph_to_json(graph),
    }


def measurement_row(
    graph: ModelGraph, hardware: Hardware, measurements: Measurements
) -> dict[str, Any]:
    """Where the operators of a graph were measured, and what was measured beside them."""
    return {
        "graph_hash": graph.content_hash,
        "hardware_json": json.dumps(hardware_values(hardware)),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": device_name(),
        "overheads_json": json.dumps(asdict(measurements.overheads)),
        "optimizer": measurements.optimizer,
        "optimizer_s": measurements.optimizer_s,
        "notes_json": json.dumps(measurements.notes),
    }


def step_row(problem: Problem, schedule: Schedule, predicted: Estimate) -> dict[str, Any]:
    """A step before it is measured; ``died`` is its status unless somebody says otherwise."""
    return {
        "graph_hash": problem.graph.content_hash,
        "model": problem.graph.model_name,
        "optimizer": problem.optimizer.name,
        "schedule_json": schedule_to_json(schedule),
        "cost_model": predicted.cost_model,
        "predicted_step_time_s": predicted.step_time_s,
        "predicted_peak_bytes": predicted.peak_memory_bytes,
        "status": "died",
        "device": problem.hardware.name,
        "torch": str(torch.__version__),
    }


def operator_rows(
    graph: ModelGraph, hardware: Hardware, measurements: Measurements
) -> list[dict[str, Any]]:
    """The operators of every kind of unit that was measured, once."""
    first_of_kind = {unit.kind: unit for unit in reversed(graph.units)}
    return [
        row
        for kind in measurements.units
        for row in _unit_rows(graph, first_of_kind[kind], hardware, measurements)
    ]


def _unit_rows(
    graph: ModelGraph, unit: Unit, hardware: Hardware, measurements: Measurements
) -> list[dict[str, Any]]:
    times = measurements.units[unit.kind]
    phases = (
        (FORWARD, unit.forward, times.forward_op_s),
        (BACKWARD, unit.backward, times.backward_op_s),
    )
    rows = []
    for phase, (start, end), op_times in phases:
        for index, time_s in zip(range(start, end), op_times, strict=True):
            row = {"unit_kind": unit.kind, "unit": unit.index, "phase": phase}
            row |= {"position": index - start, "time_s": time_s, "repetitions": times.repetitions}
            rows.append(row | _operator(graph, index, hardware, measurements))
    return rows


def _operator(
    graph: ModelGraph, index: int, hardware: Hardware, measurements: Measurements
) -> dict[str, Any]:
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
        "roofline_s": roofline_op_time_s(graph, op, hardware),
        "workspace_bytes": measurements.workspace_bytes.get(signature),
        "device": hardware.name,
        "torch": str(torch.__version__),
    }
