"""ModelGraph to JSON and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from remora.errors import FileFormatError
from remora.graph.model_graph import (
    ModelGraph,
    ModuleCall,
    Op,
    SavedTensor,
    Storage,
    TensorView,
    Unit,
)
from remora.graph.precision.precision import Precision

GRAPH_VERSION = 1

_OP_FIELDS = tuple(field.name for field in dataclasses.fields(Op))


def graph_to_json(graph: ModelGraph) -> str:
    """Write a graph as JSON."""
    return json.dumps(graph_to_values(graph))


def graph_to_values(graph: ModelGraph) -> dict[str, Any]:
    """Return a graph as values for JSON; records become lists in the order of their fields."""
    return {
        "version": GRAPH_VERSION,
        "model_name": graph.model_name,
        "num_forward_ops": graph.num_forward_ops,
        "traced_with": graph.traced_with,
        "notes": graph.notes,
        "ops": [_row(op) for op in graph.ops],
        "storages": [_row(storage) for storage in graph.storages],
        "tensors": [_row(tensor) for tensor in graph.tensors],
        "units": [dataclasses.asdict(unit) for unit in graph.units],
    }


def graph_from_json(text: str) -> ModelGraph:
    """Read a graph that :func:`graph_to_json` wrote.

    Raises:
        FileFormatError: not JSON, cut short, a missing field or another version.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"graph is not complete JSON: {error}") from error
    return graph_from_values(content)


def graph_from_values(content: Any) -> ModelGraph:
    """Read the values that :func:`graph_to_values` returned, as they come out of JSON.

    Raises:
        FileFormatError: a missing field or another version.
    """
    version = content.get("version") if isinstance(content, dict) else None
    if version != GRAPH_VERSION:
        raise FileFormatError(f"graph version is {version!r}; allowed: {GRAPH_VERSION}")
    try:
        return ModelGraph(
            model_name=content["model_name"],
            ops=tuple(_op(row) for row in content["ops"]),
            storages=tuple(Storage(*row) for row in content["storages"]),
            tensors=tuple(
                TensorView(row[0], tuple(row[1]), tuple(row[2]), row[3], row[4])
                for row in content["tensors"]
            ),
            units=tuple(_unit(entry) for entry in content["units"]),
            num_forward_ops=content["num_forward_ops"],
            traced_with=content["traced_with"],
            notes=tuple(content["notes"]),
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise FileFormatError(f"graph lacks or garbles a field: {error}") from error


def _row(record: Any) -> list[Any]:
    return [getattr(record, field.name) for field in dataclasses.fields(record)]


def _op(row: list[Any]) -> Op:
    values = dict(zip(_OP_FIELDS, row, strict=True))
    values["kwargs"] = tuple((key, value) for key, value in values["kwargs"])
    for name in ("args", "inputs", "outputs", "mutates"):
        values[name] = tuple(values[name])
    return Op(**values)


def _call(entry: Mapping[str, Any] | None) -> ModuleCall | None:
    return None if entry is None else ModuleCall(**entry)


def _unit(entry: Mapping[str, Any]) -> Unit:
    values = dict(entry)
    values["marker"] = _call(values["marker"])
    values["steps"] = tuple(ModuleCall(**step) for step in values["steps"])
    values["saved"] = tuple(SavedTensor(**saved) for saved in values["saved"])
    for name in ("forward", "backward", "mutated_buffers"):
        values[name] = tuple(values[name])
    # A field that earlier files do not have.
    values["precision"] = Precision(values.get("precision", Precision.MODEL))
    return Unit(**values)
