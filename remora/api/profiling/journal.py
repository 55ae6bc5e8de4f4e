"""What a process has measured so far, line by line, so that another goes on where it died."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Journal", "is_step", "step_item"]

Entry = dict[str, Any]


_STEP = "step "


def step_item(label: str, number: int) -> str:
    """Name of the item of a schedule that is measured for the ``number``-th time, from 0."""
    return f"{_STEP}{number} {label}"


def is_step(item: str) -> bool:
    """Whether an item is a measured schedule."""
    return item.startswith(_STEP)


class Journal:
    """A file of JSON lines: an item is begun, then done.

    A line that a killed process left unfinished is dropped, and a begun item without an answer is
    the one that the process died of.

    Args:
        path: of the file; missing folders are made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[str, Entry] = {}
        self._begun: dict[str, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        whole = lines[:-1]
        for line in whole:
            self._take(json.loads(line))
        if lines and lines[-1]:
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")

    def begin(self, item: str) -> None:
        """Note that an item is about to be measured."""
        self._append({"begun": item})

    def done(self, item: str, values: Entry) -> None:
        """Note what an item showed."""
        self._append({"done": item, "values": values})

    def values(self, item: str) -> Entry | None:
        """What an item showed; None if that is not known."""
        return self._done.get(item)

    def attempts(self, item: str) -> int:
        """How often an item was begun."""
        return self._begun.get(item, 0)

    @property
    def num_done(self) -> int:
        """Number of items that are done."""
        return len(self._done)

    def open_item(self) -> str | None:
        """The item that was begun last and has no answer."""
        left = [item for item in self._begun if item not in self._done]
        return left[-1] if left else None

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def _append(self, entry: Entry) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        if "begun" in entry:
            item = entry["begun"]
            self._begun[item] = self._begun.pop(item, 0) + 1
        else:
            self._done[entry["done"]] = entry["values"]
