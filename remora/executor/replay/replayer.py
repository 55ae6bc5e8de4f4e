"""The device at hand as something that measures traced operators."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

import torch
from torch import nn

from remora.executor.replay.host_time import forward_overhead_s
from remora.executor.replay.optimizer import measure_optimizer
from remora.executor.replay.overhead import measure_overheads
from remora.executor.replay.units import measure_units
from remora.executor.replay.workspace import measure_workspace
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.hardware.local import local_device_type
from remora.hardware.measurements import Overheads, UnitTimes

__all__ = ["Replayer"]


class Replayer:
    """Measures on one device by running operators again; needs the graph, not the model.

    With the model, the host time of its own Python code is measured too, which matters where
    operators are short.

    Args:
        device: where to run; the device that ``hardware=local`` describes if None.
        repetitions: runs of each unit.
        model: the traced model, if it is at hand.
        example_inputs: its example batch.
        loss: as given to the trace.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        repetitions: int = 5,
        model: nn.Module | None = None,
        example_inputs: ExampleInputs = (),
        loss: LossFunction | None = None,
    ) -> None:
        self.device = torch.device(local_device_type()) if device is None else device
        self.repetitions = repetitions
        self.model = model
        self.example_inputs = example_inputs
        self.loss = loss

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

    def overheads_name(self, graph: ModelGraph) -> str:
        """Return what the overheads hold for: this model, or any."""
        return "any" if self.model is None else graph.content_hash

    def overheads(self, graph: ModelGraph, units: Mapping[str, UnitTimes]) -> Overheads:
        """Return the host's time around operators, given the times of the operators."""
        overheads = measure_overheads(self.device)
        if self.model is None or self.device.type == "cuda":
            return overheads
        own_s = forward_overhead_s(self.model, self.example_inputs, self.loss, graph, units)
        return overheads if own_s is None else replace(overheads, forward_op_s=own_s)

    def optimizer_s(self, graph: ModelGraph, optimizer: str) -> float:
        """Return seconds of one optimizer step."""
        return measure_optimizer(graph, optimizer, self.device)
