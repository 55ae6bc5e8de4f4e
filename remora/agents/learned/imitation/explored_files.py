"""Explored episodes on disk: what was done as JSON, what other actions led to as arrays."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from remora.agents.learned.imitation.demonstration_files import (
    read_demonstrations,
    write_demonstrations,
)
from remora.agents.learned.imitation.lesson import Explored
from remora.envs.actions import NUM_ACTIONS
from remora.errors import FileFormatError, UsageError

__all__ = ["EXPLORED_NAME", "read_explored", "write_explored"]

EXPLORED_NAME = "explored.json"
"""Of the episodes; what their actions led to lies beside it with the ending ``.npz``."""


def write_explored(path: Path, explored: Sequence[Explored]) -> None:
    """Write both files; the one with the episodes comes last, and is there once all is.

    Raises:
        UsageError: a file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.npz")
    try:
        np.savez_compressed(temporary, costs=np.concatenate([one.costs for one in explored]))
        os.replace(temporary, path.with_suffix(".npz"))
    except OSError as error:
        raise UsageError(f"{path.with_suffix('.npz')} cannot be written: {error}") from error
    write_demonstrations(path, [one.episode for one in explored])


def read_explored(path: Path) -> tuple[Explored, ...]:
    """Read both files.

    Raises:
        FileFormatError: one is missing, broken, or they do not belong together.
    """
    episodes = read_demonstrations(path)
    arrays = path.with_suffix(".npz")
    try:
        with open(arrays, "rb") as file, np.load(file, allow_pickle=False) as values:
            costs = np.asarray(values["costs"], dtype=np.float64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{arrays} is missing or broken: {error}") from error
    ends = np.cumsum([len(one.actions) for one in episodes])
    if costs.shape != (ends[-1] if len(ends) else 0, NUM_ACTIONS):
        raise FileFormatError(f"{arrays} has shape {costs.shape}, which is not that of {path}")
    parts = np.split(costs, ends[:-1])
    return tuple(Explored(one, part) for one, part in zip(episodes, parts, strict=True))
