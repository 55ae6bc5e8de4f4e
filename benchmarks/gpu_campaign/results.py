"""The folder of a campaign: results as JSON and Markdown beside the tables of the dataset.

Every file is written whole or not at all, and in an order in which a stop between two of them is
harmless: rows of a part that does not count as run yet are replaced when it runs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_campaign.dataset import Dataset
from benchmarks.gpu_campaign.journal import Told
from benchmarks.gpu_campaign.part_process import PartState
from benchmarks.gpu_campaign.tables import report
from remora.errors import FileFormatError, InvalidInputError
from remora.report.files import read_json, write_json, write_text

__all__ = ["Results"]

VERSION = 1
_JSON, _TEXT = "results.json", "results.md"


class Results:
    """States of all parts, and rows.

    Args:
        folder: made if it is missing.
        about: what figures depend on; its ``device`` must be that of earlier runs.

    Attributes:
        parts: states by name.

    Raises:
        FileFormatError: a file of the folder cannot be read.
        InvalidInputError: the folder is of another device.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self._folder = folder
        self._about = about
        self.parts: dict[str, PartState] = {}
        self.dataset = Dataset(folder)
        path = folder / _JSON
        if path.exists():
            self._take(read_json(path, "results", VERSION), path)

    def _take(self, values: dict[str, Any], path: Path) -> None:
        try:
            device = values["about"]["device"]
            parts = {name: PartState.of(state) for name, state in values["parts"].items()}
            seconds = float(values["about"]["seconds"])
        except (KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"the results file {path} lacks a field: {error}") from error
        if device != self._about["device"]:
            raise InvalidInputError(
                f"out is {str(self._folder)!r}, which holds results of {device!r}; allowed here: "
                f"a new folder or one of {self._about['device']!r}"
            )
        self.parts = parts
        self._about["seconds"] += seconds

    def state(self, name: str) -> PartState:
        """The state of a part, a new one if it never ran."""
        return self.parts.setdefault(name, PartState())

    def take_rows(self, told: Sequence[Told]) -> None:
        """Take the rows that processes told."""
        for one in told:
            for table, rows in one.rows.items():
                self.dataset.add(table, rows)

    def add_seconds(self, seconds: float) -> None:
        """Count time that the campaign took."""
        self._about["seconds"] += seconds

    def save(self) -> None:
        """Write all files.

        Raises:
            OSError, UsageError: there is no room; files that were there before are as they were.
        """
        self.dataset.save()
        states = {name: state.values() for name, state in self.parts.items()}
        write_json(
            self._folder / _JSON, {"version": VERSION, "about": self._about, "parts": states}
        )
        write_text(self._folder / _TEXT, report(self._about, self.parts))
