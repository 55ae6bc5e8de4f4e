"""Schedule to JSON and back; what cannot be trusted is refused with its reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from remora.errors import FileFormatError
from remora.graph.precision.precision import Precision
from remora.schedule.schedule import (
    SCHEDULE_VERSION,
    Action,
    Group,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    Placement,
    PrecisionPlan,
    Schedule,
    StatePlan,
    TensorPlan,
    UnitOption,
)

_Choice = TypeVar("_Choice", bound=StrEnum)
_PARTS: Mapping[str, type] = {
    "memory": MemoryPlan,
    "pipeline": PipelinePlan,
    "state": StatePlan,
    "tensor": TensorPlan,
    "precision": PrecisionPlan,
}


def schedule_to_json(schedule: Schedule) -> str:
    """Write a schedule as JSON with its version."""
    memory = schedule.memory
    content = {
        "version": SCHEDULE_VERSION,
        "graph_hash": schedule.graph_hash,
        "memory": {
            "options": [[list(pair) for pair in option.actions] for option in memory.options],
            "groups": [dataclasses.asdict(group) for group in memory.groups],
            "offload_window": memory.offload_window,
            "prefetch_distance": memory.prefetch_distance,
            "paces": [list(pace) for pace in memory.paces],
        },
        "pipeline": dataclasses.asdict(schedule.pipeline),
        "state": dataclasses.asdict(schedule.state),
        "tensor": dataclasses.asdict(schedule.tensor),
        "precision": dataclasses.asdict(schedule.precision),
    }
    return json.dumps(content, indent=1)


def schedule_from_json(text: str, expected_graph_hash: str | None = None) -> Schedule:
    """Read a schedule that :func:`schedule_to_json` wrote.

    Args:
        text: the file's content.
        expected_graph_hash: hash of the graph it must belong to, if given.

    Raises:
        FileFormatError: cut short, another version, another model, or a field that is missing,
            unknown or not allowed.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"schedule is cut short or not JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileFormatError("schedule is not a JSON object; allowed: what optimize writes")
    if "_target_" in text:
        raise FileFormatError("schedule holds a '_target_'; a file must not name code to run")
    _check_version(content.get("version"))
    try:
        schedule = _schedule(content)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"schedule lacks or garbles a field: {error}") from error
    if expected_graph_hash is not None and schedule.graph_hash != expected_graph_hash:
        raise FileFormatError(
            f"schedule was made for another model or batch: graph_hash is "
            f"{schedule.graph_hash!r}; allowed: {expected_graph_hash!r}"
        )
    return schedule


def _check_version(version: Any) -> None:
    if isinstance(version, int) and 1 <= version <= SCHEDULE_VERSION:
        return
    newer = isinstance(version, int) and version > SCHEDULE_VERSION
    hint = "; it was written by a newer Remora" if newer else ""
    raise FileFormatError(
        f"schedule version is {version!r}; allowed: 1 to {SCHEDULE_VERSION}{hint}"
    )


def _schedule(content: Mapping[str, Any]) -> Schedule:
    _check_fields("the schedule", content, ("version", "graph_hash", *_PARTS))
    # Parts that versions 2 and 3 did not have.
    content = {"tensor": {}, "precision": {}, **content}
    memory, pipeline, state, tensor, precision = (content[part] for part in _PARTS)
    for part, record in _PARTS.items():
        _check_fields(part, content[part], [f.name for f in dataclasses.fields(record)])
    return Schedule(
        graph_hash=str(content["graph_hash"]),
        memory=MemoryPlan(
            options=tuple(map(_option, memory["options"])),
            groups=tuple(_group(entry) for entry in memory["groups"]),
            offload_window=_integer("memory.offload_window", memory["offload_window"]),
            prefetch_distance=_integer("memory.prefetch_distance", memory["prefetch_distance"]),
            # Fields that version 1 did not have.
            paces=tuple(map(_pace, memory.get("paces", ()))),
        ),
        pipeline=PipelinePlan(
            kind=_choice("pipeline.kind", PipelineKind, pipeline["kind"]),
            cuts=_integers("pipeline.cuts", pipeline["cuts"]),
            chunks=_integer("pipeline.chunks", pipeline["chunks"]),
            micro_batches=_integer("pipeline.micro_batches", pipeline["micro_batches"]),
        ),
        state=StatePlan(
            weights=_choice("state.weights", Placement, state["weights"]),
            gradients=_choice("state.gradients", Placement, state["gradients"]),
            optimizer=_choice("state.optimizer", Placement, state["optimizer"]),
            zero_stage=_integer("state.zero_stage", state["zero_stage"]),
            streamed_units=_integers("state.streamed_units", state.get("streamed_units", ())),
            # Fields that version 2 did not have.
            host_caches=_integers("state.host_caches", state.get("host_caches", ())),
        ),
        tensor=TensorPlan(degree=_integer("tensor.degree", tensor.get("degree", 1))),
        precision=PrecisionPlan(
            tuple(_choice("precision.units", Precision, p) for p in precision.get("units", ()))
        ),
    )


def _option(entry: Any) -> UnitOption:
    return UnitOption(
        tuple((str(name), _choice("memory.options", Action, action)) for name, action in entry)
    )


def _pace(entry: Any) -> tuple[int, int]:
    window, distance = _integers("memory.paces", entry)
    return window, distance


def _group(entry: Mapping[str, Any]) -> Group:
    _check_fields("memory.groups", entry, [field.name for field in dataclasses.fields(Group)])
    return Group(
        start=_integer("memory.groups.start", entry["start"]),
        end=_integer("memory.groups.end", entry["end"]),
        checkpoint=_choice("memory.groups.checkpoint", Action, entry["checkpoint"]),
        children=tuple(_group(child) for child in entry["children"]),
    )


def _check_fields(where: str, entry: Mapping[str, Any], known: Collection[str]) -> None:
    for field in entry:
        if field not in known:
            raise ValueError(f"{where} has a field {field!r}; allowed: {', '.join(known)}")


def _choice(field: str, choices: type[_Choice], value: Any) -> _Choice:
    if value not in list(choices):
        allowed = ", ".join(repr(choice.value) for choice in choices)
        raise ValueError(f"{field} has {value!r}; allowed: {allowed}")
    return choices(value)


def _integers(field: str, values: Any) -> tuple[int, ...]:
    return tuple(_integer(field, value) for value in values)


def _integer(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{field} has {value!r}; allowed: integers")
    return value
