"""Finding the processes that belong to one test, whoever their parent is."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

GONE_WITHIN_S = 10.0

_VARIABLE = "REMORA_TEST"


@dataclass(frozen=True)
class Living:
    """The processes that were started with a test's environment."""

    name: str

    def pids(self) -> set[int]:
        """All that run now, zombies left out."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(_VARIABLE) == self.name:
                    found.add(process.pid)
        return found - {os.getpid()}

    def all_gone(self) -> bool:
        """Whether none runs any more, at the latest after a while."""
        deadline_s = time.monotonic() + GONE_WITHIN_S
        while self.pids():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.05)
        return True


@contextlib.contextmanager
def living() -> Iterator[Living]:
    """Mark what is started from now on."""
    with pytest.MonkeyPatch.context() as patch:
        name = uuid.uuid4().hex
        patch.setenv(_VARIABLE, name)
        yield Living(name)
