from __future__ import annotations

from collections.abc import Iterator

import pytest

from remora.api.bench import quality
from remora.api.bench.task import Opened, Outcome, Task, run_task


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run tasks here instead of in worker processes, whose start takes seconds."""

    def run_here(tasks: list[Task], jobs: int) -> Iterator[Opened | Outcome]:
        for task in tasks:
            yield from run_task(task)

    monkeypatch.setattr(quality, "run_in_workers", run_here)
