"""Record one real training step under a schedule on one device."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from remora.executor.memory.install import apply
from remora.executor.memory.plan import runtime_plan
from remora.executor.step import TrainingStep, model_device, preserved
from remora.executor.timeline.assemble import timed_instructions
from remora.executor.timeline.clocks import Clock, clock_for
from remora.executor.timeline.event_log import RecordedLog
from remora.executor.timeline.levels import levels_on_cpu, memory_samples
from remora.executor.timeline.unit_marks import UnitMarks
from remora.graph.loss import ExampleInputs, LossFunction, resolve_loss
from remora.graph.model_graph import ModelGraph
from remora.graph.wrapping import wrapped_forwards
from remora.schedule.schedule import Schedule
from remora.simulator.timeline import TimedInstruction, Timeline

__all__ = ["record_timeline"]

_STEPS = 3
"""The one of median length is told of."""


def record_timeline(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    graph: ModelGraph,
    schedule: Schedule,
    *,
    optimizer_name: str = "adamw",
    allow_lossy: bool = False,
) -> Timeline:
    """Run training steps under a schedule and tell what one of them did and when.

    Instructions have the labels that the simulator gives them: every unit's forward, backward and
    recomputation, the copies to the host and back, the optimizer's step. On the CPU copies happen
    inside of the forwards and backwards that issue them. The memory curve has levels at the
    borders of units and peaks in between, not told apart by kind. Parameters, buffers, gradients
    and random state are restored afterwards.

    Args:
        model: the module that ``graph`` was traced from, in training mode.
        example_inputs: one batch of the traced shape.
        loss: of the output; None for the default.
        graph: of the model.
        schedule: for that graph, on one device.
        optimizer_name: optimizer of the steps.
        allow_lossy: whether the schedule may compress saved tensors.

    Raises:
        InvalidInputError: the schedule does not fit the graph or the model.
        MissingExtraError: the schedule wants an optimizer of a package that is not installed.
    """
    device = model_device(model)
    log = RecordedLog(clock_for(device))
    marks = UnitMarks(graph, runtime_plan(graph, schedule, allow_lossy).last_inner_unit, log)
    with (
        preserved(model),
        apply(model, graph, schedule, allow_lossy=allow_lossy, log=log) as handle,
        wrapped_forwards(model, marks.paths, marks.run),
    ):
        told = _telling(resolve_loss(loss), marks)
        step = TrainingStep(model, example_inputs, told, optimizer_name, handle, log)
        step.run()
        gc.collect()
        runs = [_recorded(step, log, clock_for(device)) for _ in range(_STEPS)]
        run = sorted(runs, key=lambda one: one.mark_times_s[-1])[_STEPS // 2]
        levels_bytes = run.levels_bytes
        if device.type == "cpu":
            levels_bytes = levels_on_cpu(step, log)
        host_peak_bytes = handle.host_peak_bytes
    return Timeline(
        step_time_s=run.mark_times_s[-1],
        peak_bytes=(max((highest for _, highest in levels_bytes), default=0),),
        host_peak_bytes=(host_peak_bytes,),
        peak_breakdown={},
        events=tuple(run.events),
        memory=(memory_samples(run.events, run.mark_times_s, levels_bytes),),
    )


@dataclass(frozen=True)
class _Run:
    """One step.

    Attributes:
        events: timed.
        mark_times_s: of the borders on the compute stream.
        levels_bytes: live bytes at these, and the highest level since the one before; empty where
            the clock cannot tell.
    """

    events: list[TimedInstruction]
    mark_times_s: list[float]
    levels_bytes: list[tuple[int, int]]


def _recorded(step: TrainingStep, log: RecordedLog, clock: Clock) -> _Run:
    clock.settle()
    log.restart(clock)
    step.run()
    log.finish()
    clock.settle()
    times_s = [clock.since_s(log.marks[0], mark) for mark in log.marks]
    return _Run(timed_instructions(log, clock), times_s, list(clock.levels_bytes))


def _telling(loss: LossFunction, marks: UnitMarks) -> LossFunction:
    """A loss that also tells that the backward comes next."""

    def told(output: Any) -> Tensor:
        value = loss(output)
        marks.begin_backward()
        return value

    return told
