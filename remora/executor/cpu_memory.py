"""Live bytes of PyTorch's CPU allocator while a function runs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

__all__ = ["cpu_peak_bytes", "work_on_host"]

_HOST_WORK = "remora: work on the host"


def work_on_host() -> AbstractContextManager[object]:
    """Mark what a host would do beside its device: its memory is none of the device's.

    Where the CPU is the device, its allocator sees both.
    """
    return record_function(_HOST_WORK)


def quieten_profiler() -> None:
    """Keep the profiler's library from writing two lines to standard error whenever it runs.

    It looks once, when it runs first.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def cpu_peak_bytes(function: Callable[[], object]) -> int:
    """Return how far the live bytes rise above their level at the start while a function runs.

    The allocator's own events are summed, so memory that an operator takes only while it works is
    seen too. Memory that NumPy or others allocate is not, nor what is taken and given back inside
    of :func:`work_on_host`.

    Args:
        function: called once.

    Returns:
        Bytes, at least 0; 0 if nothing was allocated.
    """
    quieten_profiler()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        function()
    results = run.profiler.kineto_results if run.profiler is not None else None
    if results is None:
        return 0
    events = [event for event in results.events() if event.device_type() == DeviceType.CPU]
    on_host = [(e.start_ns(), e.end_ns()) for e in events if e.name() == _HOST_WORK]
    changes: list[tuple[int, int]] = [
        (event.start_ns(), event.nbytes())
        for event in events
        if event.name() == "[memory]"
        and not any(start <= event.start_ns() <= end for start, end in on_host)
    ]
    changes.sort(key=lambda change: change[0])
    return max(itertools.accumulate((size for _, size in changes), initial=0))
