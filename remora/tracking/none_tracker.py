"""A tracker that keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remora.tracking.tracker import DONE

__all__ = ["NoneTracker"]


class NoneTracker:
    """Accepts every call and keeps nothing."""

    def start(self, config: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep nothing."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep nothing."""

    def log_artifact(self, name: str, kind: str, path: Path) -> None:
        """Keep nothing."""

    def log_picture(self, name: str, path: Path) -> None:
        """Keep nothing."""

    def finish(self, status: str = DONE) -> None:
        """Keep nothing."""
