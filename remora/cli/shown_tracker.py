"""A tracker that also shows on the console how far a training is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remora.api.request import Progress
from remora.tracking.tracker import DONE, Tracker

__all__ = ["ShownTracker"]


class ShownTracker:
    """Hands every call to another tracker and shows how far the training is.

    Args:
        tracker: keeps the run.
        progress: shows a line per update.
        names: metrics to show.
    """

    def __init__(self, tracker: Tracker, progress: Progress, names: Sequence[str]) -> None:
        self._tracker = tracker
        self._progress = progress
        self._names = names

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin the run."""
        self._tracker.start(config)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep and show numbers."""
        self._tracker.log_metrics(metrics, step)
        shown = [f", {name} {metrics[name]:.4g}" for name in self._names if name in metrics]
        self._progress.stage(f"training: step {step}{''.join(shown)}")

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep a table."""
        self._tracker.log_table(name, columns, rows)

    def log_artifact(self, name: str, kind: str, path: Path) -> None:
        """Keep a file or folder."""
        self._tracker.log_artifact(name, kind, path)

    def log_picture(self, name: str, path: Path) -> None:
        """Keep a picture."""
        self._tracker.log_picture(name, path)

    def finish(self, status: str = DONE) -> None:
        """End the run."""
        self._tracker.finish(status)
