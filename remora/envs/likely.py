"""The likely step time of a pipeline, for kernels; compiled."""

from __future__ import annotations

from remora.envs.jit import kernel
from remora.simulator.likely import likely_step_s

__all__ = ["likely_s"]

likely_s = kernel(likely_step_s)
