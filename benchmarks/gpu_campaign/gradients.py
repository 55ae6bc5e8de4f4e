"""Do gradients, buffers and random state stay those of the plain model?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_campaign.measuring import free_cached
from benchmarks.gpu_campaign.plans import plan_named
from benchmarks.gpu_campaign.subject import Item, Items, NotAsked, Subject
from remora.cost_models.roofline import roofline_costs
from remora.executor.verify import verify
from remora.schedule.menu import (
    keep_all_schedule,
    keep_option,
    offload_option,
    recompute_option,
    unit_menu,
)
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule
from remora.simulator.records import Verification

__all__ = ["gradients", "real_gradients"]

_REAL_PLAN = "greedy at 0.2"
_HALF_PLAN = "mixed options"


def gradients(subject: Subject) -> Items:
    """Check plans of every kind on the small model, with deterministic kernels."""
    part = subject.part
    small = replace(part, model=part.small, values={}) if part.small else part
    batch = 0 if part.small else subject.batch_asked
    # A subject of its own, since kernels that are deterministic may make another trace.
    tested = Subject(small, batch, subject.device.type, subject.journal, {})
    yield from (Item(label, partial(_check, tested, label)) for label in _PLANS)
    if part.small and part.library == "transformers":
        # Half precision has attention kernels of its own.
        half = Subject(
            replace(small, values={"dtype": "bfloat16"}),
            0,
            subject.device.type,
            subject.journal,
            {},
        )
        yield Item(f"{_HALF_PLAN}, bfloat16", partial(_check, half, _HALF_PLAN))


def real_gradients(subject: Subject) -> Items:
    """Check one plan at the real size."""
    yield Item(_REAL_PLAN, partial(_check_real, subject), least_s=30.0)


def _check(subject: Subject, label: str) -> Mapping[str, Any]:
    with deterministic():
        return _verdict(subject, _PLANS[label](subject))


def _check_real(subject: Subject) -> Mapping[str, Any]:
    schedule = plan_named(subject, _REAL_PLAN)
    subject.refuse_too_large(subject.predict(keep_all_schedule(subject.graph)).peak_memory_bytes)
    free_cached(subject.device)
    return _verdict(subject, schedule)


def _verdict(subject: Subject, schedule: Schedule) -> dict[str, Any]:
    model, inputs, loss = subject.example
    found = verify(
        model,
        inputs,
        loss,
        subject.graph,
        schedule,
        optimizer_name=subject.part.optimizer,
        repetitions=3,
    )
    return {**_values(found), "model": subject.part.model, "batch": subject.batch}


def _values(found: Verification) -> dict[str, Any]:
    return {
        "passed": found.passed,
        "failures": list(found.failures),
        "worst_gradient": found.worst_gradient,
        "max_gradient_difference": found.max_gradient_difference,
        "worst_parameter": found.worst_parameter,
        "max_parameter_difference": found.max_parameter_difference,
        "run_status": found.measurement.status,
        "remark": found.detail,
    }


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Ask for kernels that repeat bit by bit; those that have none warn and go on."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    # The public function loads the compiler to tell it, which takes seconds.
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch._C._set_deterministic_algorithms(before, warn_only=warn_before)


def _everywhere(subject: Subject, action: Action) -> Schedule:
    graph = subject.graph
    options = []
    for unit in graph.units:
        if unit.fixed_reason:
            options.append(keep_option(unit))
        elif action is Action.RECOMPUTE:
            options.append(recompute_option(unit))
        else:
            options.append(offload_option(graph, unit))
    return Schedule(graph.content_hash, MemoryPlan(tuple(options)))


def _mixed(subject: Subject) -> Schedule:
    """Every unit by the last option of its menu, which keeps, moves and recomputes parts."""
    problem = _cheap_problem(subject)
    options = tuple(unit_menu(problem, unit)[-1] for unit in subject.graph.units)
    return Schedule(subject.graph.content_hash, MemoryPlan(options))


def _nested(subject: Subject) -> Schedule:
    """Two groups over the units that may be in one, the second with its checkpoint on the host."""
    units = [unit.index for unit in subject.graph.units if not unit.fixed_reason]
    start, end = units[0], units[-1] + 1
    if end - start != len(units) or len(units) < 4:
        raise NotAsked("its units that can be recomputed are no row of four or more")
    middle = (start + end) // 2
    quarter = (start + middle) // 2
    groups = (
        Group(start, middle, Action.KEEP, (Group(quarter, middle),)),
        Group(middle, end, Action.OFFLOAD),
    )
    options = tuple(keep_option(unit) for unit in subject.graph.units)
    return Schedule(subject.graph.content_hash, MemoryPlan(options, groups))


def _cheap_problem(subject: Subject) -> Problem:
    optimizer = OPTIMIZERS[subject.part.optimizer]
    costs = roofline_costs(subject.graph, subject.hardware, optimizer.name)
    return Problem({1: subject.graph}, {1: costs}, subject.hardware, optimizer, 2**60)


_PLANS: Mapping[str, Callable[[Subject], Schedule]] = {
    "recompute all": partial(_everywhere, action=Action.RECOMPUTE),
    "offload all": partial(_everywhere, action=Action.OFFLOAD),
    "mixed options": _mixed,
    "nested groups": _nested,
}
