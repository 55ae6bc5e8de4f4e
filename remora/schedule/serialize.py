"""Schedule to JSON and back; what cannot be trusted is refused with its reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from remora.errors import FileFormatError
from remora.schedule.schedule import (
    SCHEDULE_VERSION,
    Action,
    Group,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    Placement,
    Schedule,
    StatePlan,
    UnitOption,
)


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
    memory, pipeline, state = content["memory"], content["pipeline"], content["state"]
    return Schedule(
        graph_hash=str(content["graph_hash"]),
        memory=MemoryPlan(
            options=tuple(
                UnitOption(tuple((str(name), Action(action)) for name, action in option))
                for option in memory["options"]
            ),
            groups=tuple(_group(entry) for entry in memory["groups"]),
            offload_window=int(memory["offload_window"]),
            prefetch_distance=int(memory["prefetch_distance"]),
            # Fields that version 1 did not have.
            paces=tuple((int(w), int(d)) for w, d in memory.get("paces", ())),
        ),
        pipeline=PipelinePlan(
            kind=PipelineKind(pipeline["kind"]),
            cuts=tuple(int(cut) for cut in pipeline["cuts"]),
            chunks=int(pipeline["chunks"]),
            micro_batches=int(pipeline["micro_batches"]),
        ),
        state=StatePlan(
            weights=Placement(state["weights"]),
            gradients=Placement(state["gradients"]),
            optimizer=Placement(state["optimizer"]),
            zero_stage=int(state["zero_stage"]),
            streamed_units=tuple(int(unit) for unit in state.get("streamed_units", ())),
        ),
    )


def _group(entry: Mapping[str, Any]) -> Group:
    return Group(
        start=int(entry["start"]),
        end=int(entry["end"]),
        checkpoint=Action(entry["checkpoint"]),
        children=tuple(_group(child) for child in entry["children"]),
    )
