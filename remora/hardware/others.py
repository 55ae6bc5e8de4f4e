"""How much of this machine other programs used while something was measured on it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuMoment", "cpu_moment", "others_share"]

_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns user, nice, system, irq, softirq and steal."""

_SHORTEST_S = 0.1
"""The system counts in hundredths of a second: what is shorter says nothing."""


@dataclass(frozen=True, slots=True)
class CpuMoment:
    """What the processor has done so far.

    Attributes:
        at_s: of a clock.
        machine_s: seconds that all cores together were busy; NaN where the system does not tell.
        own_s: of these, this process's; what it starts counts as another program.
    """

    at_s: float
    machine_s: float
    own_s: float


def cpu_moment() -> CpuMoment:
    """Read the counters of Linux."""
    own = os.times()
    return CpuMoment(time.monotonic(), _machine_s(), own.user + own.system)


def others_share(since: CpuMoment, until: CpuMoment | None = None) -> float:
    """Return the share of all cores that other programs kept busy.

    Args:
        since: when what was measured began.
        until: when it ended; now if not given.

    Returns:
        From 0 to 1; 0 where it is not known, or where it took less than a tenth of a second.
    """
    until = until or cpu_moment()
    lasted_s = until.at_s - since.at_s
    others_s = (until.machine_s - since.machine_s) - (until.own_s - since.own_s)
    if lasted_s < _SHORTEST_S or not others_s > 0:
        return 0.0
    return min(1.0, others_s / lasted_s / (os.cpu_count() or 1))


def _machine_s() -> float:
    try:
        columns = _STAT.read_text().splitlines()[0].split()[1:]
    except (OSError, IndexError):
        return float("nan")
    return sum(int(columns[place]) for place in _BUSY) / os.sysconf("SC_CLK_TCK")
