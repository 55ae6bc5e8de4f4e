"""The largest batch within a memory limit that the device keeps, as it is and with a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_campaign.journal import Record
from benchmarks.gpu_campaign.measuring import free_cached, measure
from benchmarks.gpu_campaign.plans import proposed
from benchmarks.gpu_campaign.subject import Item, Items, NotAsked, Subject
from remora.agents.registry import create
from remora.api.fitting import fits
from remora.cost_models.roofline import roofline_costs
from remora.executor.memory.install import apply
from remora.executor.step import TrainingStep
from remora.graph.batch import with_batch
from remora.graph.trace import trace
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import Schedule
from remora.simulator.simulate import simulate

__all__ = ["largest_batch", "next_trial"]

_MARGIN = 0.04
"""Of the limit: what the allocator loses to pieces and libraries keep."""

_MOST_TRIALS = 6
_GROWTH = 1.05
_CLOSE = 0.02
_SECTION = "largest_batch"
_AGENTS = ("greedy", "recompute_offload", "offload_all", "floor")


def largest_batch(subject: Subject) -> Items:
    """Predict both batches, then try them and their neighbours."""
    yield Item("prediction", partial(_predicted, subject), least_s=20.0)
    record = subject.known.get((_SECTION, "prediction"))
    if record is None or record.status != "ok":
        return
    for way in ("plain", "planned"):
        first = max(1, int(record.figures[f"predicted_{way}"]))
        for _ in range(_MOST_TRIALS):
            trial = next_trial(outcomes(subject.known, way), first)
            if trial is None:
                break
            run = partial(_try, subject, way, trial, record.figures["limit_bytes"])
            yield Item(f"{way} {trial}", run, least_s=12.0)


def outcomes(known: Mapping[tuple[str, str], Record], way: str) -> dict[int, bool]:
    """Batches that were tried, and whether they ran within the limit."""
    found = {}
    for (section, label), record in known.items():
        name, _, batch = label.partition(" ")
        if section == _SECTION and name == way:
            found[int(batch)] = record.status == "ok" and bool(record.figures["within"])
    return found


def next_trial(tried: Mapping[int, bool], first: int) -> int | None:
    """The batch to try next; None where the largest is known closely enough."""
    fits_at = max((batch for batch, ran in tried.items() if ran), default=None)
    fails_at = min((batch for batch, ran in tried.items() if not ran), default=None)
    if fits_at is None and fails_at is None:
        return first
    if fits_at is None:
        assert fails_at is not None
        return None if fails_at <= 1 else min(fails_at - 1, int(fails_at / _GROWTH))
    if fails_at is None:
        return max(fits_at + 1, int(fits_at * _GROWTH))
    if fails_at - fits_at <= max(1, int(_CLOSE * fits_at)):
        return None
    return (fits_at + fails_at) // 2


def _predicted(subject: Subject) -> Mapping[str, Any]:
    limit_bytes = _limit_bytes(subject)
    example = subject.example
    fit = fits(
        example.model,
        example.example_inputs,
        int(limit_bytes * (1 - _margin(subject))),
        loss=example.loss,
        optimizer=subject.part.optimizer,
        hardware=subject.hardware,
    )
    return {
        "limit_bytes": limit_bytes,
        "predicted_plain": fit.largest_batch_keep_all,
        "predicted_planned": fit.largest_batch,
    }


def _limit_bytes(subject: Subject) -> int:
    """On a CPU, where nothing keeps a limit, the predicted peak of the part's own batch."""
    if subject.device.type == "cuda":
        _, total_bytes = torch.cuda.mem_get_info(subject.device)
        return min(subject.part.limit_bytes, int(0.9 * total_bytes))
    problem = _problem(subject, subject.example.example_inputs, 2**60)
    return simulate(problem, keep_all_schedule(problem.graph)).max_peak_bytes


def _try(subject: Subject, way: str, batch: int, limit_bytes: int) -> Mapping[str, Any]:
    """Run a few steps of a batch under the limit."""
    model, inputs, loss = subject.example
    sized = with_batch(inputs, batch)
    budget_bytes = int(limit_bytes * (1 - _margin(subject)))
    problem = _problem(subject, sized, budget_bytes)
    schedule = keep_all_schedule(problem.graph)
    if way == "planned":
        schedule = _plan(problem)
    free_cached(subject.device)
    with _limited(subject.device, limit_bytes), apply(model, problem.graph, schedule) as handle:
        step = TrainingStep(model, sized, loss, subject.part.optimizer)
        try:
            found = measure(step.run, step.resident_bytes, subject.device, repetitions=3)
        finally:
            model.zero_grad(set_to_none=True)
        host_bytes = handle.host_peak_bytes
    return {
        "batch": batch,
        "within": found.peak_reserved_bytes <= limit_bytes * 1.001,
        "predicted_peak_bytes": simulate(problem, schedule).max_peak_bytes,
        "host_bytes": host_bytes,
        "samples_per_s": batch / found.step_time_s,
        **found.values(),
    }


def _plan(problem: Problem) -> Schedule:
    """The fastest plan of a few schedulers that fits.

    Raises:
        NotAsked: none has one.
    """
    found: list[tuple[float, Schedule]] = []
    for name in _AGENTS:
        with contextlib.suppress(NotAsked):
            schedule = proposed(create(name), problem, 5.0)
            timeline = simulate(problem, schedule)
            if timeline.max_peak_bytes <= problem.budget_bytes:
                found.append((timeline.step_time_s, schedule))
    if not found:
        raise NotAsked("no plan fits")
    return min(found, key=lambda pair: pair[0])[1]


def _problem(subject: Subject, inputs: Any, budget_bytes: int) -> Problem:
    """Peaks do not depend on times, so nothing is measured for these sizes."""
    model, _, loss = subject.example
    graph = trace(model, inputs, loss)
    optimizer = OPTIMIZERS[subject.part.optimizer]
    hardware = replace(subject.hardware, state=None)
    costs = roofline_costs(graph, hardware, optimizer.name)
    return Problem({1: graph}, {1: costs}, hardware, optimizer, budget_bytes, state_on_device=True)


def _margin(subject: Subject) -> float:
    return _MARGIN if subject.device.type == "cuda" else 0.0


@contextlib.contextmanager
def _limited(device: torch.device, limit_bytes: int) -> Iterator[None]:
    """Let PyTorch's allocator refuse what goes beyond the limit."""
    if device.type != "cuda":
        yield
        return
    _, total_bytes = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total_bytes), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
