"""Whether a training step fits into a memory budget, and how large its batch may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remora.agents.candidates import run_member
from remora.agents.registry import create
from remora.api.batch_limit import largest_batch
from remora.api.planning import state_problem
from remora.api.request import Progress, Request
from remora.graph.batch import batch_of, with_batch
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.simulator.simulate import simulate

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Fit", "fits", "make_fit"]

_LEANEST_AGENTS = ("floor", "offload_all")


@dataclass(frozen=True)
class Fit:
    """Whether and how a training step fits.

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
) -> Fit:
    """Say whether a training step fits into a budget, as it is or with a schedule.

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
    )
    graph_at = _tracer(model, example_inputs, loss, units)
    return make_fit(graph_at, batch_of(example_inputs), request, find_largest_batch)


def make_fit(
    graph_at: Callable[[int], ModelGraph],
    batch: int,
    request: Request,
    find_largest_batch: bool,
    progress: Progress | None = None,
) -> Fit:
    """Answer :func:`fits` for anything that can be traced at several batch sizes.

    Args:
        graph_at: traces the step at a batch size.
        batch: size of the example batch.
        request: budget, hardware, optimizer and cost model.
        find_largest_batch: trace other sizes too.
        progress: told when pieces of work begin.
    """
    progress = progress or Progress()
    problem = state_problem({1: graph_at(batch)}, request, progress)
    keep_all = simulate(problem, keep_all_schedule(problem.graph))
    least_bytes, least_breakdown = _least_memory(problem)
    limits: tuple[int | None, int | None] = (None, None)
    if find_largest_batch:
        progress.stage("looking for the largest batch")
        limits = _largest_batches(graph_at, batch, problem, request)
    return Fit(
        model_name=problem.graph.model_name,
        hardware_name=problem.hardware.name,
        budget_bytes=problem.budget_bytes,
        batch=batch,
        keep_all_peak_bytes=keep_all.max_peak_bytes,
        keep_all_breakdown_bytes={str(k): v for k, v in keep_all.peak_breakdown.items()},
        least_peak_bytes=least_bytes,
        least_breakdown_bytes=least_breakdown,
        largest_batch_keep_all=limits[0],
        largest_batch=limits[1],
    )


def _tracer(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    units: Sequence[str] | None,
) -> Callable[[int], ModelGraph]:
    return lambda batch: trace(model, with_batch(example_inputs, batch), loss, units)


def _least_memory(problem: Problem) -> tuple[int, Mapping[str, int]]:
    """Smallest peak of the plans of least memory, and what takes it."""
    schedules = (run_member(create(name), problem, 60.0).schedule for name in _LEANEST_AGENTS)
    timelines = [simulate(problem, schedule) for schedule in schedules if schedule is not None]
    least = min(timelines, key=lambda timeline: timeline.max_peak_bytes)
    return least.max_peak_bytes, {str(k): v for k, v in least.peak_breakdown.items()}


def _largest_batches(
    graph_at: Callable[[int], ModelGraph], batch: int, problem: Problem, request: Request
) -> tuple[int, int]:
    """Largest batch unscheduled and with a schedule; sizes are traced once for both."""
    # Peaks do not depend on times, so nothing is measured for the other sizes.
    fixed = replace(request, memory=problem.budget_bytes, cost_model="roofline")
    problems: dict[int, Problem] = {}

    def at(size: int) -> Problem:
        if size not in problems:
            problems[size] = state_problem({1: graph_at(size)}, fixed)
        return problems[size]

    def keep_all_peak(size: int) -> int:
        sized = at(size)
        return simulate(sized, keep_all_schedule(sized.graph)).max_peak_bytes

    budget_bytes = problem.budget_bytes
    alone = largest_batch(keep_all_peak, budget_bytes, batch)
    scheduled = largest_batch(lambda size: _least_memory(at(size))[0], budget_bytes, max(alone, 1))
    return alone, max(alone, scheduled)
