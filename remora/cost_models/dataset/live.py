"""The device as it was while a run was measured: a shared machine is not equally fast all day."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from remora.cost_models.dataset.merge import grouped, place
from remora.cost_models.dataset.records import ProfiledRun
from remora.hardware.hardware import Hardware

__all__ = ["at_speed", "with_live_rates"]

_SLOWEST, _FASTEST = 2.0, 0.5


def with_live_rates(runs: Iterable[ProfiledRun]) -> tuple[ProfiledRun, ...]:
    """Scale the launch time of every run's device by how slow its host was just then.

    The measure is what autograd's bookkeeping took per operator of a fixed stack of tiny blocks,
    measured in the same process (``Overheads.recorded_op_s``), over its median in that setting.
    It says nothing of the run's own model. Runs without it keep their device.

    Args:
        runs: of any settings.
    """
    found: list[ProfiledRun] = []
    for same in grouped(runs, place):
        typical_s = _typical_s(same)
        found += [_live(run, typical_s) for run in same]
    return tuple(found)


def at_speed(hardware: Hardware, slowness: float) -> Hardware:
    """Return a device whose host needs so many times as long for everything it does.

    Args:
        hardware: as it is described.
        slowness: 1 for as usual; held between 0.5 and 2.
    """
    factor = min(max(slowness, _FASTEST), _SLOWEST)
    return replace(hardware, kernel_launch_s=hardware.kernel_launch_s * factor)


def _typical_s(runs: Sequence[ProfiledRun]) -> float:
    measured = [run.measurements.overheads.recorded_op_s for run in runs]
    return statistics.median([time_s for time_s in measured if time_s > 0] or [0.0])


def _live(run: ProfiledRun, typical_s: float) -> ProfiledRun:
    recorded_s = run.measurements.overheads.recorded_op_s
    if recorded_s <= 0:
        return run
    hardware = at_speed(run.setting.hardware, recorded_s / typical_s)
    return replace(run, setting=replace(run.setting, hardware=hardware))
