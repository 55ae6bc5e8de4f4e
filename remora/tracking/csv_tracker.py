"""A tracker that writes plain files: readable while the run goes on, and by anything."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from remora.tracking.tracker import DONE

__all__ = ["CsvTracker"]


class CsvTracker:
    """Writes configuration, status, metrics, artifacts' places and every table as files.

    Metrics stand in rows of step, name and value, since the names may change between steps.

    Args:
        folder: where the files go; made if missing.
    """

    def __init__(self, folder: str | Path = "outputs/csv") -> None:
        self._folder = Path(folder)
        self._finished = False

    def start(self, config: Mapping[str, Any]) -> None:
        """Make the folder and write the configuration."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_json("config.json", config)
        self._write_rows("metrics.csv", "w", [("step", "name", "value")])
        self._write_rows("artifacts.csv", "w", [("name", "kind", "path")])
        self._write_json("status.json", {"status": "running"})

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Append one row per metric."""
        rows = [(step, name, value) for name, value in metrics.items()]
        self._write_rows("metrics.csv", "a", rows)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write ``<name>.csv``; slashes in the name become underscores."""
        self._write_rows(f"{name.replace('/', '_')}.csv", "w", [columns, *rows])

    def log_artifact(self, name: str, kind: str, path: Path) -> None:
        """Append where the artifact lies."""
        self._write_rows("artifacts.csv", "a", [(name, kind, path)])

    def log_picture(self, name: str, path: Path) -> None:
        """Append where the picture lies."""
        self.log_artifact(name, "picture", path)

    def finish(self, status: str = DONE) -> None:
        """Write the status, once."""
        if not self._finished:
            self._finished = True
            self._write_json("status.json", {"status": status})

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(dict(values), indent=1, default=str)
        (self._folder / name).write_text(text, encoding="utf-8")

    def _write_rows(self, name: str, mode: str, rows: Iterable[Sequence[Any]]) -> None:
        with (self._folder / name).open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
