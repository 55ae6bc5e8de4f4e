"""What a worker tells while it works, one JSON line after the other, so that a crash loses nothing.

A line is written when an item begins and when it ended; an item that began and never ended is what
a process died of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FAULTS", "OK", "Journal", "Record", "Told", "read_journal"]

OK = "ok"
FAULTS = frozenset({"wrong", "out_of_memory", "crashed", "timed_out"})
"""Besides these and ``ok`` there is ``skipped``: what could not be asked for here."""


@dataclass(frozen=True)
class Record:
    """The end of one item.

    Attributes:
        section, label: which one.
        batch: samples of the model it ran on.
        status: ``ok``, ``skipped`` or one of :data:`FAULTS`.
        detail: why it is not ``ok``.
        seconds: that it took.
        figures: what it found.
    """

    section: str
    label: str
    batch: int
    status: str = OK
    detail: str = ""
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Told:
    """Everything in a journal.

    Attributes:
        records: items that ended.
        begun: the item that did not; None if all did.
        finished: sections of which nothing is left.
        rows: of the dataset, by table.
    """

    records: list[Record] = field(default_factory=list)
    begun: Record | None = None
    finished: list[str] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class Journal:
    """Appends to a file, flushed line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, section: str, label: str, batch: int) -> None:
        """Note that an item begins."""
        self._write("begin", asdict(Record(section, label, batch)))

    def end(self, record: Record) -> None:
        """Note that it ended."""
        self._write("end", asdict(record))

    def finish(self, section: str) -> None:
        """Note that nothing of a section is left."""
        self._write("finish", section)

    def rows(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Hand over rows of the dataset."""
        self._write("rows", {"table": table, "rows": list(rows)})

    def _write(self, kind: str, content: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([kind, content]) + "\n")


def read_journal(path: Path) -> Told:
    """Read a journal; a last line that was cut short is left out."""
    told = Told()
    if not path.exists():
        return told
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            kind, content = json.loads(line)
        except ValueError:
            break
        if kind == "begin":
            told.begun = Record(**content)
        elif kind == "end":
            told.begun = None
            told.records.append(Record(**content))
        elif kind == "finish":
            told.finished.append(content)
        else:
            told.rows.setdefault(content["table"], []).extend(content["rows"])
    return told
