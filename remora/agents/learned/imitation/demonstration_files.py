"""Demonstrations on disk, as JSON without the problems that they are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remora.agents.heuristics.shapes import Shape
from remora.agents.learned.imitation.lesson import Demonstration
from remora.envs.actions import NUM_ACTIONS, OBSERVATION_VERSION
from remora.errors import FileFormatError
from remora.report.files import read_json, write_json
from remora.schedule.schedule import PipelineKind

__all__ = ["read_demonstrations", "write_demonstrations"]


def write_demonstrations(path: Path, shown: Sequence[Demonstration]) -> None:
    """Write demonstrations, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    rows = [{**dataclasses.asdict(one), "actions": list(one.actions)} for one in shown]
    for row in rows:
        row["shape"] = list(row["shape"].values())
    write_json(path, {"version": OBSERVATION_VERSION, "shown": rows}, compact=True)


def read_demonstrations(path: Path) -> tuple[Demonstration, ...]:
    """Read demonstrations.

    Raises:
        FileFormatError: the file is missing, broken, or its actions mean something else now.
    """
    values = read_json(path, "demonstrations", OBSERVATION_VERSION)
    try:
        return tuple(_demonstration(row) for row in values["shown"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} lacks or garbles a demonstration: {error}") from error


def _demonstration(row: Mapping[str, Any]) -> Demonstration:
    kind, *numbers = row["shape"]
    actions = tuple(map(int, row["actions"]))
    if not all(0 <= action < NUM_ACTIONS for action in actions):
        raise ValueError(f"actions are {actions}; allowed: 0 to {NUM_ACTIONS - 1}")
    return Demonstration(
        lesson=str(row["lesson"]),
        shape=Shape(PipelineKind(kind), *map(int, numbers)),
        actions=actions,
        step_time_s=float(row["step_time_s"]),
        source=str(row["source"]),
    )
