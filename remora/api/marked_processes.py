"""Ending every process that carries a mark in its environment, whoever its parent is.

Where psutil is not installed, Linux's own ``/proc`` tells the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["MARK", "end_marked", "signal_marked"]

MARK = "REMORA_RUN"
"""Name of the environment variable that holds the mark."""

_ENDED_WITHIN_S = 10.0
_PAUSE_S = 0.02

_PROC = Path("/proc")


def end_marked(mark: str) -> None:
    """Kill every process with the mark; more than once, since one may have been starting another.

    A process that the system cannot end, as one in an uninterruptible call, is given up on.
    """
    deadline_s = time.monotonic() + _ENDED_WITHIN_S
    while signal_marked(mark, signal.SIGKILL) and time.monotonic() < deadline_s:
        time.sleep(_PAUSE_S)


def signal_marked(mark: str, number: signal.Signals) -> bool:
    """Send a signal to every process with the mark; tells whether there was any."""
    living = _finder()(mark)
    for process in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
    return bool(living)


def _finder() -> Callable[[str], list[int]]:
    try:
        import psutil  # noqa: F401
    except ImportError:
        return _marked_in_proc
    return _marked_by_psutil


def _marked_by_psutil(mark: str) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter():
        # Processes of others, zombies, and those that just went away show no environment.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                found.append(process.pid)
    return found


def _marked_in_proc(mark: str) -> list[int]:
    entry = f"{MARK}={mark}".encode()
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        # The same: a zombie's environment is empty, another user's cannot be read.
        with contextlib.suppress(OSError):
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
