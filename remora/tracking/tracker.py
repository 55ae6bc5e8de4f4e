"""What every tracker of experiments can do, and a run that is finished whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

__all__ = ["CRASHED", "DONE", "INTERRUPTED", "Tracker", "tracked"]

DONE = "done"
CRASHED = "crashed"
INTERRUPTED = "interrupted"


class Tracker(Protocol):
    """Keeps the configuration, curves, tables and files of one run.

    The calls come in the order ``start``, any number of ``log_*``, ``finish``.
    """

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin the run and keep its configuration."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep numbers by name for one step; steps do not fall."""
        ...

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep a table."""
        ...

    def log_artifact(self, name: str, kind: str, path: Path) -> None:
        """Keep a file or folder.

        Args:
            name: name of the artifact.
            kind: ``dataset``, ``cost_model``, ``policy``, ``schedule`` or ``report``.
            path: what to keep.
        """
        ...

    def log_picture(self, name: str, path: Path) -> None:
        """Keep a PNG file where pictures are looked at."""
        ...

    def finish(self, status: str = DONE) -> None:
        """End the run as ``done``, ``crashed`` or ``interrupted``; a second call does nothing."""
        ...


@contextmanager
def tracked(tracker: Tracker, config: Mapping[str, Any]) -> Iterator[Tracker]:
    """Start a run and finish it also when its body raises.

    Args:
        tracker: a tracker that was not started yet.
        config: plain values to keep with the run.
    """
    tracker.start(config)
    try:
        yield tracker
    except KeyboardInterrupt:
        tracker.finish(INTERRUPTED)
        raise
    except BaseException:
        tracker.finish(CRASHED)
        raise
    tracker.finish(DONE)
