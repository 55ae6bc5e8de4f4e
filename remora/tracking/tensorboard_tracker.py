"""A tracker that writes event files for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remora.errors import MissingExtraError
from remora.tracking.tracker import DONE

__all__ = ["TensorboardTracker"]


class TensorboardTracker:
    """Writes scalars, and configuration, tables and artifacts' places as text.

    Args:
        folder: where the event files go; made if missing.
    """

    def __init__(self, folder: str | Path = "outputs/tensorboard") -> None:
        self._folder = str(folder)
        self._writer: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        """Open the event file and keep the configuration as text.

        Raises:
            MissingExtraError: tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "dev", "tracker=tensorboard") from error
        self._writer = SummaryWriter(self._folder)
        text = json.dumps(dict(config), indent=1, default=str)
        self._writer.add_text("config", f"```\n{text}\n```")

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one scalar per metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write the table as Markdown."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
        self._writer.add_text(name, text)

    def log_artifact(self, name: str, kind: str, path: Path) -> None:
        """Write where the artifact lies."""
        self._writer.add_text(f"{kind}/{name}", str(path))

    def log_picture(self, name: str, path: Path) -> None:
        """Write the picture."""
        from matplotlib.image import imread

        self._writer.add_image(name, imread(path)[..., :3], dataformats="HWC")

    def finish(self, status: str = DONE) -> None:
        """Write the status and close the file."""
        if self._writer is not None:
            self._writer.add_text("status", status)
            self._writer.close()
            self._writer = None
