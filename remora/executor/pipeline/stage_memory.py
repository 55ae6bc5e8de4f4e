"""The memory plans of the stages of one rank in effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from remora.executor.memory.buffers import buffer_slots
from remora.executor.memory.call_recorder import CallRecorder
from remora.executor.memory.forward import ForwardPass
from remora.executor.memory.mover import mover_for
from remora.executor.memory.offload import ForwardClock, OffloadTimeline
from remora.executor.memory.plan import RuntimePlan, stage_runtime_plan
from remora.executor.memory.region import Region
from remora.executor.memory.replay import replay
from remora.executor.pipeline.parts import StagePart
from remora.graph.model_graph import ModelGraph
from remora.schedule.schedule import MemoryPlan

__all__ = ["StageMemory"]


class StageMemory:
    """Begins forwards of stages under their plans.

    Args:
        model: the whole model.
        graph: of one micro-batch.
        memory: plan of all units.
        parts: stages of the rank, by number.
        device: where they run.

    Attributes:
        errors: of compressed tensors in the first step, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: ModelGraph,
        memory: MemoryPlan,
        parts: Mapping[int, StagePart],
        device: torch.device,
    ) -> None:
        self.errors: dict[str, float] = {}
        self._slots = tuple(buffer_slots(model, unit) for unit in graph.units)
        self._plans = {
            number: stage_runtime_plan(graph, memory, part.index, part.span)
            for number, part in parts.items()
        }
        self._device = device
        # The pace of copies counts the forwards of all stages of the rank.
        self._clock = ForwardClock()
        self._mover = mover_for(device)

    def passes_of(self, number: int) -> Callable[[], ForwardPass] | None:
        """Return what begins a forward of a stage; None if nothing need be done about it."""
        plan = self._plans[number]
        if plan.is_empty and not any(other.offloads for other in self._plans.values()):
            return None
        recorder = CallRecorder() if plan.records_calls else None
        return lambda: self._begin(plan, recorder)

    def _begin(self, plan: RuntimePlan, recorder: CallRecorder | None) -> ForwardPass:
        timeline = OffloadTimeline(self._mover, self._clock, plan.end, plan.window, plan.distance)
        return ForwardPass(
            plan,
            self._slots,
            self._device,
            self._clock,
            timeline,
            self._replay,
            recorder,
            self.errors,
        )

    def _replay(self, region: Region) -> None:
        replay(region, self._device)
