"""The choices that bounds are made for one by one: ranks, micro-batches, placement of the state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from remora.errors import InvalidInputError
from remora.schedule.layout import Layout
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import (
    PipelineKind,
    PipelinePlan,
    Placement,
    Schedule,
    StatePlan,
)
from remora.schedule.state_bytes import StateBytes
from remora.schedule.validate_state import check_state_plan
from remora.simulator.bounds.many_ranks import ManyRanks
from remora.simulator.bounds.one_rank import OneRank
from remora.simulator.bounds.pipelines import fastest_pipeline

__all__ = ["Choice", "choice_of", "choices_of", "sizes_of"]

Choice = OneRank | ManyRanks
"""Bounds of the schedules that have one number of ranks, of micro-batches, and one placement."""


def sizes_of(problem: Problem) -> list[tuple[float, int, int]]:
    """Allowed (least seconds, ranks of a replica, micro-batches), fastest first."""
    fixed = problem.micro_batches
    counts = sorted(problem.graphs) if fixed is None else [fixed]
    found = []
    for count in counts:
        once_s = sum(problem.costs[count].op_time_s)
        for ranks in problem.pipeline_sizes:
            if ranks <= len(problem.graph.units):
                found.append((count * once_s / ranks, ranks, count))
    return sorted(found)


def choices_of(
    problem: Problem, num_ranks: int, micro_batches: int, limit_s: float = math.inf
) -> Iterator[Choice]:
    """All placements of the state for one number of ranks and micro-batches.

    Args:
        problem: what is planned.
        num_ranks: ranks of one replica.
        micro_batches: of one step.
        limit_s: pipelines that are not faster with unlimited memory are left out.
    """
    kind = PipelineKind.NONE if num_ranks == 1 else PipelineKind.GPIPE
    cuts = tuple(range(1, num_ranks))
    plain = dataclasses.replace(
        keep_all_schedule(problem.graph),
        pipeline=PipelinePlan(kind, cuts, micro_batches=micro_batches),
    )
    if num_ranks == 1:
        for state in _states(problem, plain):
            yield OneRank(Layout(problem, dataclasses.replace(plain, state=state)))
        return
    time = fastest_pipeline(problem.chains[micro_batches], num_ranks, micro_batches)
    if time is not None and time.path_s < limit_s:
        whole = Layout(problem, _in_one_stage(plain))
        for state in _states(problem, plain):
            yield ManyRanks(whole, state, num_ranks, time)


def choice_of(problem: Problem, schedule: Schedule) -> Choice:
    """Bounds for the choices that a valid schedule makes; which weights it streams is free."""
    state = dataclasses.replace(schedule.state, weights=Placement.DEVICE, streamed_units=())
    pipeline = schedule.pipeline
    whole = Layout(problem, dataclasses.replace(_in_one_stage(schedule), state=state))
    if pipeline.num_ranks == 1:
        return OneRank(whole)
    chain = problem.chains[pipeline.micro_batches]
    time = fastest_pipeline(chain, pipeline.num_ranks, pipeline.micro_batches, pipeline.kind)
    assert time is not None, "a valid schedule is among the pipelines of its kind"
    return ManyRanks(whole, state, pipeline.num_ranks, time)


def _in_one_stage(schedule: Schedule) -> Schedule:
    pipeline = PipelinePlan(micro_batches=schedule.pipeline.micro_batches)
    return dataclasses.replace(schedule, pipeline=pipeline)


def _states(problem: Problem, plain: Schedule) -> Iterator[StatePlan]:
    """Placements that are allowed; of device and 8 bit only the smaller one."""
    replicas = problem.num_groups // plain.pipeline.num_ranks
    statics = problem.chains[plain.pipeline.micro_batches].statics.all
    for zero_stage in range(4 if replicas > 1 else 1):
        plans = [
            StatePlan(gradients=gradients, optimizer=optimizer, zero_stage=zero_stage)
            for optimizer in (Placement.DEVICE, Placement.EIGHT_BIT, Placement.HOST)
            for gradients in (Placement.DEVICE, Placement.HOST)
        ]
        allowed = [plan for plan in plans if _allowed(problem, plain, plan)]
        sizes = {
            plan: StateBytes(statics, problem.optimizer, plan, replicas, ()).optimizer_bytes
            for plan in allowed
            if plan.optimizer is not Placement.HOST
        }
        if sizes:
            yield min(sizes, key=sizes.__getitem__)
        yield from (plan for plan in allowed if plan.optimizer is Placement.HOST)


def _allowed(problem: Problem, plain: Schedule, state: StatePlan) -> bool:
    try:
        check_state_plan(problem, dataclasses.replace(plain, state=state))
    except InvalidInputError:
        return False
    return True
