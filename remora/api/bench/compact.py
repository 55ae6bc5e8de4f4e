"""Schedules in few bytes: one letter per saved tensor, whose names are those of the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from remora.errors import FileFormatError
from remora.graph.model_graph import ModelGraph, Unit
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule
from remora.schedule.serialize import schedule_from_json, schedule_to_json

__all__ = ["compact_schedule", "full_schedule", "graph_of"]

_LETTERS = {action.value[0]: action.value for action in Action}


def compact_schedule(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as plain values whose options are strings such as ``kkrok``."""
    values: dict[str, Any] = json.loads(schedule_to_json(schedule))
    values["memory"]["options"] = [
        "".join(action[0] for _, action in option) for option in values["memory"]["options"]
    ]
    return values


def full_schedule(values: Mapping[str, Any], graph: ModelGraph) -> Schedule:
    """Read what :func:`compact_schedule` wrote.

    Args:
        values: not changed.
        graph: the graph of the schedule; names the saved tensors.

    Raises:
        FileFormatError: another graph, or a field is missing or garbled.
    """
    try:
        memory = dict(values["memory"])
        options = memory["options"]
        if len(options) != len(graph.units):
            raise ValueError(f"{len(options)} options for {len(graph.units)} units")
        memory["options"] = [_option(u, text) for u, text in zip(graph.units, options, strict=True)]
        text = json.dumps({**values, "memory": memory})
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"a compact schedule lacks or garbles a field: {error}") from error
    return schedule_from_json(text, graph.content_hash)


def graph_of(values: Mapping[str, Any], problem: Problem) -> ModelGraph:
    """The graph of the variant that a compact schedule belongs to; the problem's if of none."""
    wanted = values.get("graph_hash")
    graphs = (variant.graph for variant in problem.family)
    return next((graph for graph in graphs if graph.content_hash == wanted), problem.graph)


def _option(unit: Unit, text: str) -> list[list[str]]:
    return [[saved.name, _LETTERS[letter]] for saved, letter in zip(unit.saved, text, strict=True)]
