"""Whether a step, or a pass, fits into a memory budget, and how large its batch may be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remora.agents.candidates import run_member
from remora.agents.registry import create
from remora.api.batch_limit import largest_batch
from remora.api.batch_tracer import BatchTracer, SizedTrace
from remora.api.planning import state_problem
from remora.api.request import Progress, Request, check_request
from remora.graph.evaluating import evaluating
from remora.graph.loss import ExampleInputs, LossFunction
from remora.hardware.hardware import Hardware
from remora.schedule.inference import Mode
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from remora.zoo import Example

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Fit", "fits", "make_fit"]

_LEANEST_AGENTS = {Mode.TRAIN: ("floor", "offload_all"), Mode.INFERENCE: ("stream_all",)}


@dataclass(frozen=True)
class Fit:
    """Whether and how a training step, or a pass of inference, fits.

    Attributes:
        model_name: of the graph.
        hardware_name: what it was asked for.
        budget_bytes: memory per device.
        batch: size of the example batch.
        keep_all_peak_bytes: peak of the unscheduled model.
        keep_all_breakdown_bytes: what takes the memory at that peak, by kind.
        least_peak_bytes: smallest peak of the fixed plans of least memory.
        least_breakdown_bytes: what takes the memory at that peak, by kind.
        largest_batch_keep_all: largest batch that fits unscheduled; 0 for none, None if it was
            not looked for.
        largest_batch: largest batch that fits with a schedule, likewise.
        most_batch: no larger batch was tried; one that is as large may not be the largest.
        mode: ``train`` or ``inference``.
    """

    model_name: str
    hardware_name: str
    budget_bytes: int
    batch: int
    keep_all_peak_bytes: int
    keep_all_breakdown_bytes: Mapping[str, int]
    least_peak_bytes: int
    least_breakdown_bytes: Mapping[str, int]
    largest_batch_keep_all: int | None
    largest_batch: int | None
    most_batch: int | None = None
    mode: str = "train"

    @property
    def fits_unscheduled(self) -> bool:
        """Whether the model runs as it is."""
        return self.keep_all_peak_bytes <= self.budget_bytes

    @property
    def fits(self) -> bool:
        """Whether some schedule fits."""
        return min(self.least_peak_bytes, self.keep_all_peak_bytes) <= self.budget_bytes


def fits(  # noqa: PLR0913 - one call takes what there is to say
    model: nn.Module,
    example_inputs: ExampleInputs,
    memory: int | str | None = None,
    *,
    loss: LossFunction | None = None,
    optimizer: str | None = "adamw",
    hardware: str | Mapping[str, Any] | Hardware = "local",
    units: Sequence[str] | None = None,
    cost_model: str = "roofline",
    host_pool: str | None = None,
    find_largest_batch: bool = True,
    mode: str = "train",
    prompt_tokens: int | None = None,
    generated_tokens: int = 0,
) -> Fit:
    """Say whether a step, or a pass of inference, fits into a budget, as it is or scheduled.

    Args:
        model: the module; it is not run and not changed.
        example_inputs: one batch; its leading dimension is varied to find the largest.
        memory: budget per device, as in :func:`remora.optimize`.
        loss: function of the output, as there.
        optimizer: name, or None to leave it out of the count.
        hardware: name, values or record, as there.
        units: module paths that begin units, as there.
        cost_model: ``profiled`` also counts the measured workspace of single operators.
        host_pool: overrides where offloaded tensors go, as there.
        find_largest_batch: trace other batch sizes too.
        mode: ``train`` or ``inference``, as there.
        prompt_tokens: of one sequence, in inference, as there.
        generated_tokens: of one sequence, likewise.

    Raises:
        UsageError: an argument is not allowed.
        TraceError, ModelRunError: the model could not be traced, or failed on its batch.
    """
    request = Request(
        memory=memory,
        optimizer=optimizer,
        hardware=hardware,
        host_pool=host_pool,
        cost_model=cost_model,
        mode=mode,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated_tokens,
    )
    check_request(request)
    passes = request.mode == Mode.INFERENCE
    with evaluating(model) if passes else contextlib.nullcontext():
        tracer = BatchTracer(Example(model, example_inputs, loss), request, units)
        return make_fit(tracer, request, find_largest_batch)


def make_fit(
    tracer: BatchTracer,
    request: Request,
    find_largest_batch: bool,
    progress: Progress | None = None,
) -> Fit:
    """Answer :func:`fits` for anything that can be traced at several batch sizes.

    Args:
        tracer: of the example.
        request: budget, hardware, optimizer, cost model and mode.
        find_largest_batch: trace other sizes too.
        progress: told when pieces of work begin.

    Raises:
        TraceError, ModelRunError: the model could not be traced, or failed on its batch.
    """
    progress = progress or Progress()
    problem = _problem(tracer.at(tracer.batch), request, progress)
    keep_all = simulate(problem, keep_all_schedule(problem.graph))
    least = _least_memory(problem)
    limits: tuple[int | None, int | None] = (None, None)
    if find_largest_batch:
        progress.stage("looking for the largest batch")
        limits = _largest_batches(tracer, problem, request)
    return Fit(
        model_name=problem.graph.model_name,
        hardware_name=problem.hardware.name,
        budget_bytes=problem.budget_bytes,
        batch=tracer.batch,
        keep_all_peak_bytes=keep_all.max_peak_bytes,
        keep_all_breakdown_bytes=_breakdown(keep_all),
        least_peak_bytes=least.max_peak_bytes,
        least_breakdown_bytes=_breakdown(least),
        largest_batch_keep_all=limits[0],
        largest_batch=limits[1],
        most_batch=tracer.most if find_largest_batch else None,
        mode=request.mode,
    )


def _problem(traced: SizedTrace, request: Request, progress: Progress | None = None) -> Problem:
    return state_problem({1: traced.graph}, request, progress, inference=traced.inference)


def _least_memory(problem: Problem) -> Timeline:
    """The run of least peak of the plans of least memory."""
    names = _LEANEST_AGENTS[problem.mode]
    schedules = (run_member(create(name), problem, 60.0).schedule for name in names)
    timelines = [simulate(problem, schedule) for schedule in schedules if schedule is not None]
    return min(timelines, key=lambda timeline: timeline.max_peak_bytes)


def _breakdown(timeline: Timeline) -> dict[str, int]:
    return {str(kind): num_bytes for kind, num_bytes in timeline.peak_breakdown.items()}


def _largest_batches(tracer: BatchTracer, problem: Problem, request: Request) -> tuple[int, int]:
    """Largest batch unscheduled and with a schedule; sizes are traced once for both."""
    # Peaks do not depend on times, so nothing is measured for the other sizes.
    fixed = replace(request, memory=problem.budget_bytes, cost_model="roofline")
    problems: dict[int, Problem] = {}

    def at(size: int) -> Problem:
        if size not in problems:
            problems[size] = _problem(tracer.at(size), fixed)
        return problems[size]

    def keep_all_peak(size: int) -> int:
        sized = at(size)
        return simulate(sized, keep_all_schedule(sized.graph)).max_peak_bytes

    def least_peak(size: int) -> int:
        return min(_least_memory(at(size)).max_peak_bytes, keep_all_peak(size))

    def largest(peak: Callable[[int], int], *starts: int) -> int:
        return largest_batch(peak, problem.budget_bytes, starts, tracer.most)

    alone = largest(keep_all_peak, tracer.batch)
    return alone, largest(least_peak, *{tracer.batch, max(alone, 1)})
