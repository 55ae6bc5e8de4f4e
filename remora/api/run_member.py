"""What a process of a run does for the run: it ends with its parent, and tells where it is."""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import sys

__all__ = ["WHERE", "join_run"]

WHERE = signal.SIGUSR1
"""Asks a process of a run to write its stack to standard error."""

_SET_PARENT_DEATH_SIGNAL = 1


def join_run() -> None:
    """Become a process of a run.

    On Linux it is killed when its parent ends, however that ends: nobody else could end it then.
    """
    faulthandler.register(WHERE, all_threads=False)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
