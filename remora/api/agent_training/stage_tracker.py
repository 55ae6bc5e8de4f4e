"""The curves of several stages in one run of a tracker, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remora.tracking.tracker import Tracker

__all__ = ["StageTracker"]


class StageTracker:
    """Hands what a stage logs on, with its name in front and its steps after those before.

    Args:
        tracker: started and finished by somebody else.
        stage: name of the stage.
        first: step of the run at which the stage begins.
    """

    def __init__(self, tracker: Tracker, stage: str, first: int) -> None:
        self._tracker = tracker
        self._stage = stage
        self._first = first
        self.last = first

    def start(self, config: Mapping[str, Any]) -> None:
        """The run has begun already."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep numbers."""
        named = {
            name if name.startswith(f"{self._stage}/") else f"{self._stage}/{name}": value
            for name, value in metrics.items()
        }
        self.last = max(self.last, self._first + step)
        self._tracker.log_metrics(named, self.last)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep a table."""
        self._tracker.log_table(f"{self._stage}_{name}", columns, rows)

    def log_artifact(self, name: str, kind: str, path: Path) -> None:
        """Keep a file or folder."""
        self._tracker.log_artifact(f"{self._stage}_{name}", kind, path)

    def log_picture(self, name: str, path: Path) -> None:
        """Keep a picture."""
        self._tracker.log_picture(f"{self._stage}_{name}", path)

    def finish(self, status: str = "done") -> None:
        """The run goes on."""
