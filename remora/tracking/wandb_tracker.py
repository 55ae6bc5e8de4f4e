"""A tracker for Weights & Biases, offline unless asked otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remora.errors import InvalidInputError
from remora.tracking.tracker import DONE

__all__ = ["MODES", "WandbTracker"]

MODES = ("offline", "online", "disabled")


class WandbTracker:
    """Logs to wandb; in the mode ``offline`` nothing leaves the machine.

    Args:
        project: name of the project.
        folder: where wandb keeps its files; a folder ``wandb`` is made in it.
        mode: ``offline``, ``online`` or ``disabled``; None takes the environment variable
            WANDB_MODE, and ``offline`` where that is not set.
        group: name shared by the runs of one sweep.
        run_name: name of the run; None lets wandb choose one.

    Raises:
        InvalidInputError: the mode is not one of these.
    """

    def __init__(
        self,
        project: str = "remora",
        folder: str | Path = "outputs",
        mode: str | None = None,
        group: str | None = None,
        run_name: str | None = None,
    ) -> None:
        self._mode = mode or os.environ.get("WANDB_MODE") or "offline"
        if self._mode not in MODES:
            raise InvalidInputError(f"tracker.mode is {self._mode!r}, allowed: {', '.join(MODES)}")
        self._project = project
        self._folder = Path(folder)
        self._group = group
        self._name = run_name
        self._run: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin the run; in the mode ``online`` this asks the server."""
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        # Source code and console output of the caller are nobody's business.
        settings = wandb.Settings(console="off", save_code=False, silent=True)
        self._run = wandb.init(
            project=self._project,
            dir=str(self._folder),
            mode=self._mode,  # type: ignore[arg-type]
            group=self._group,
            name=self._name,
            config=dict(config),
            settings=settings,
            reinit="create_new",
        )

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log numbers at a step."""
        self._run.log(dict(metrics), step=step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a wandb table."""
        import wandb

        data = [list(row) for row in rows]
        self._run.log({name: wandb.Table(columns=list(columns), data=data)})

    def log_artifact(self, name: str, kind: str, path: Path) -> None:
        """Log a file or folder as an artifact."""
        import wandb

        artifact = wandb.Artifact(name, type=kind)
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def log_picture(self, name: str, path: Path) -> None:
        """Log an image."""
        import wandb

        self._run.log({name: wandb.Image(str(path))})

    def finish(self, status: str = DONE) -> None:
        """Mark the run as finished, with exit code 1 unless it is done."""
        if self._run is not None:
            run, self._run = self._run, None
            run.summary["status"] = status
            run.finish(exit_code=0 if status == DONE else 1)
