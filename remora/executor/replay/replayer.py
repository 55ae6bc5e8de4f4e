"""The device at hand as something that measures traced operators."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import torch

from remora.executor.replay.optimizer import measure_optimizer
from remora.executor.replay.overhead import measure_overheads
from remora.executor.replay.units import measure_units
from remora.executor.replay.workspace import measure_workspace
from remora.graph.model_graph import ModelGraph
from remora.hardware.local import local_device_type
from remora.hardware.measurements import Overheads, UnitTimes

__all__ = ["Replayer"]


class Replayer:
    """Measures on one device by running operators again; needs the graph, never the model.

    Args:
        device: where to run; the device that ``hardware=local`` describes if None.
        repetitions: runs of each unit.
    """

    def __init__(self, device: torch.device | None = None, repetitions: int = 5) -> None:
        self.device = torch.device(local_device_type()) if device is None else device
        self.repetitions = repetitions

    def units(
        self, graph: ModelGraph, kinds: AbstractSet[str]
    ) -> tuple[dict[str, UnitTimes], tuple[str, ...]]:
        """Return times by unit kind, and notes on kinds that could not run."""
        return measure_units(graph, kinds, self.device, self.repetitions)

    def workspaces(
        self, graph: ModelGraph, signatures: AbstractSet[str]
    ) -> tuple[dict[str, int], tuple[str, ...]]:
        """Return bytes by operator signature, and notes on operators that could not run."""
        return measure_workspace(graph, signatures, self.device)

    def overheads(self) -> Overheads:
        """Return the host's time around operators."""
        return measure_overheads(self.device)

    def optimizer_s(self, graph: ModelGraph, optimizer: str) -> float:
        """Return seconds of one optimizer step."""
        return measure_optimizer(graph, optimizer, self.device)
