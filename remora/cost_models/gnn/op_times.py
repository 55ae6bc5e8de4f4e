"""What every model of operator times answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware

__all__ = ["OpTimePredictor", "OpTimes"]


@dataclass(frozen=True)
class OpTimes:
    """Predictions for every operator of a graph, in its order.

    Attributes:
        times_s: seconds of bare operators.  # [num_ops]
        spread: relative deviation over an ensemble; 0 where there is none.  # [num_ops]
        workspace_bytes: memory beyond the results.  # [num_ops]
        notes: one sentence per operator name, or type of device, that was never seen.
    """

    times_s: NDArray[np.float64]
    spread: NDArray[np.float64]
    workspace_bytes: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @classmethod
    def only(cls, times_s: NDArray[np.float64]) -> OpTimes:
        """Return times without anything else."""
        none = np.zeros(len(times_s))
        return cls(times_s, none, none.astype(np.int64))


class OpTimePredictor(Protocol):
    """Anything that predicts the times of a graph's operators."""

    def op_times_s(self, graph: ModelGraph, hardware: Hardware) -> OpTimes:
        """Predict all operators of a graph on a device."""
        ...
