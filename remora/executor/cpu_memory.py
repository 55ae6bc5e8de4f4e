"""Live bytes of PyTorch's CPU allocator while a function runs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

__all__ = ["cpu_peak_bytes"]


def cpu_peak_bytes(function: Callable[[], object]) -> int:
    """Return how far the live bytes rise above their level at the start while a function runs.

    The allocator's own events are summed, so memory that an operator takes only while it works is
    seen too. Memory that NumPy or others allocate is not.

    Args:
        function: called once.

    Returns:
        Bytes, at least 0; 0 if nothing was allocated.
    """
    # The profiler's library otherwise writes two lines to standard error whenever it runs.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as run:
        function()
    results = run.profiler.kineto_results if run.profiler is not None else None
    if results is None:
        return 0
    changes: list[tuple[int, int]] = [
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU
    ]
    changes.sort(key=lambda change: change[0])
    return max(itertools.accumulate((size for _, size in changes), initial=0))
