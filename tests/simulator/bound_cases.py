"""Schedules and problems that lie close to what the bounds allow."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Iterable, Iterator

from remora.graph.model_graph import Unit
from remora.hardware.hardware import Link
from remora.schedule.menu import keep_option, recompute_option
from remora.schedule.problem import Problem
from remora.schedule.recompute import rerun_of
from remora.schedule.regions import region_tree
from remora.schedule.schedule import (
    Action,
    Group,
    MemoryPlan,
    PipelinePlan,
    Schedule,
    StatePlan,
    UnitOption,
)
from remora.simulator.bounds import lower_bounds, lower_bounds_like
from remora.simulator.simulate import simulate
from tests.pipelines import gpu_hardware
from tests.problems import toy_graph, zoo_graph
from tests.schedule.full_plans import full_problem, random_full_schedule

GRAPHS = ("toy", "unet_tiny", "t5_tiny", "resnet_tiny", "gpt2_tiny", "mamba2_tiny")


@functools.lru_cache(maxsize=64)
def uneven_costs_problem(
    name: str,
    seed: int,
    world_size: int = 1,
    overlap: bool = True,
    link_bytes_per_s: float = 1e9,
    lossy: bool = False,
) -> Problem:
    """A problem that allows everything, with operators and workspaces of random size."""
    rng = random.Random(seed)
    graph = toy_graph((64, 16, 128, 32, 64), 64) if name == "toy" else zoo_graph(name)
    hardware = gpu_hardware(rng.choice([1, 2, 8]), Link(4e9, 2e-6), Link(1e10, 5e-6))
    hardware = dataclasses.replace(hardware, device_type="cuda" if overlap else "cpu")
    optimizer = rng.choice(["adamw", "sgd", "none", "adamw_master"])
    problem = full_problem(graph, world_size, optimizer, hardware, micro_batches=(1, 2, 4))
    plain = problem.cost
    costs = dataclasses.replace(
        plain,
        op_time_s=tuple(rng.choice([0.1, 1.0, 3.0]) * seconds for seconds in plain.op_time_s),
        op_workspace_bytes=tuple(rng.choice([0, 0, 1000, 5000]) for _ in graph.ops),
        d2h_bytes_per_s=link_bytes_per_s,
        h2d_bytes_per_s=link_bytes_per_s * rng.choice([0.5, 1.0, 2.0]),
        copy_latency_s=rng.choice([0.0, 1e-5]),
        allocation_granularity_bytes=rng.choice([1, 512]),
        compress_bytes_per_s=3 * link_bytes_per_s,
        restore_bytes_per_s=5 * link_bytes_per_s,
        host_optimizer_time_s=rng.choice([0.0, 1e-4, 1e-3]),
        recorded_op_overhead_s=rng.choice([0.0, 1e-8]),
    )
    return dataclasses.replace(
        problem, costs=dict.fromkeys(problem.costs, costs), allow_lossy=lossy
    )


def near_keep_all(problem: Problem, seed: int) -> Schedule:
    """A random schedule of which most actions are taken back, so that it wastes little time."""
    rng = random.Random(seed)
    full = random_full_schedule(problem, seed)
    rate = rng.choice([0.1, 0.3])
    groups = tuple(group for group in full.memory.groups if rng.random() < rate)
    options = tuple(
        option
        if rng.random() < rate
        and inside(groups, unit.index) == inside(full.memory.groups, unit.index)
        else keep_option(unit)
        for unit, option in zip(problem.graph.units, full.memory.options, strict=True)
    )
    memory = dataclasses.replace(full.memory, options=options, groups=groups)
    plain = StatePlan(zero_stage=full.state.zero_stage)
    return dataclasses.replace(full, memory=memory, state=rng.choice([full.state, plain]))


def one_action_everywhere(problem: Problem, seed: int) -> Schedule:
    """The same action for the same tensors of every unit up to some unit, so that all of it helps.

    On one rank with the state on the device.
    """
    rng = random.Random(seed)
    graph = problem.graph
    actions = [Action.RECOMPUTE]
    actions += [Action.OFFLOAD] if problem.hardware.can_offload else []
    actions += [Action.COMPRESS] if problem.allow_lossy else []
    action, share = rng.choice(actions), rng.choice([0.15, 0.3, 0.6, 1.0])
    end = len(graph.units) * rng.choice([3, 4, 6]) // 6
    chosen: dict[str, list[bool]] = {}
    options = []
    for unit in graph.units:
        picks = chosen.setdefault(unit.kind, [rng.random() < share for _ in unit.saved])
        free = unit.index < end and not unit.fixed_reason
        options.append(
            UnitOption(
                tuple(
                    (saved.name, action if free and pick else Action.KEEP)
                    for saved, pick in zip(unit.saved, picks, strict=True)
                )
            )
        )
    memory = MemoryPlan(tuple(options), (), rng.randint(1, 3), rng.randint(1, 2))
    pipeline = PipelinePlan(micro_batches=rng.choice([1, 1, 2]))
    return Schedule(graph.content_hash, memory, pipeline)


def with_cheap_actions(problem: Problem, schedule: Schedule, seed: int) -> Problem:
    """The problem with costs under which what the schedule does is the cheapest way."""
    rng = random.Random(seed)
    graph = problem.graph
    again = {
        op
        for region in region_tree(schedule.memory)
        for unit in graph.units[region.start : region.end]
        for op in range(*unit.forward)
    }
    for unit, option in zip(graph.units, schedule.memory.options, strict=True):
        rerun = rerun_of(problem.chain, unit.index, option)
        again |= set(rerun.ops if rerun is not None else ())
    actions = {action for option in schedule.memory.options for action in option.distinct}
    link = rng.choice([1e9, 1e11]) if Action.OFFLOAD in actions else 1e5
    compress = 1e11 if Action.COMPRESS in actions else 1e5
    cheap_s = rng.choice([1e-7, 1e-6, 1e-5])
    costs = dataclasses.replace(
        problem.cost,
        op_time_s=tuple(
            cheap_s * rng.choice([0.5, 1, 2])
            if op in again
            else rng.choice([1e-4, 1e-3] if op < graph.num_forward_ops else [1e-6])
            for op in range(len(graph.ops))
        ),
        d2h_bytes_per_s=link,
        h2d_bytes_per_s=link * rng.choice([0.5, 1.0, 2.0]),
        compress_bytes_per_s=compress,
        restore_bytes_per_s=compress,
        copy_latency_s=rng.choice([0.0, 1e-6]),
        saved_tensor_overhead_s=rng.choice([0.0, 1e-8]),
        recorded_op_overhead_s=0.0,
    )
    return dataclasses.replace(problem, costs=dict.fromkeys(problem.costs, costs))


def inside(groups: Iterable[Group], unit: int) -> bool:
    return any(group.start <= unit < group.end for group in groups)


def with_budget(problem: Problem, budget_bytes: int) -> Problem:
    """The problem with another budget; its chains are not made again."""
    other = dataclasses.replace(problem, budget_bytes=budget_bytes)
    other.__dict__["chains"] = problem.chains
    other.__dict__["chain"] = problem.chain
    return other


def recompute_plans(problem: Problem) -> Iterator[Schedule]:
    """Every way to keep or recompute each unit, and to join neighbours into groups."""
    units = problem.graph.units
    choices = [
        [keep_option(unit)] if unit.fixed_reason or not unit.saved else list(options_of(unit))
        for unit in units
    ]
    free = [unit.index for unit in units if not unit.fixed_reason]
    for joined in itertools.product([False, True], repeat=len(free) - 1):
        starts = [free[0], *(b for b, join in zip(free[1:], joined, strict=True) if not join)]
        ends = [*starts[1:], free[-1] + 1]
        groups = tuple(Group(a, b) for a, b in zip(starts, ends, strict=True) if b - a > 1)
        for options in itertools.product(*choices):
            yield Schedule(problem.graph.content_hash, MemoryPlan(options, groups))


def options_of(unit: Unit) -> tuple[UnitOption, UnitOption]:
    return keep_option(unit), recompute_option(unit)


def fastest_by_peak(problem: Problem, plans: Iterable[Schedule]) -> list[tuple[int, float]]:
    """(peak, step time) of every plan that no other one beats in both, by rising peak."""
    runs = (simulate(problem, plan) for plan in plans)
    found = sorted((run.max_peak_bytes, run.step_time_s) for run in runs)
    front: list[tuple[int, float]] = []
    for peak, step_s in found:
        if not front or step_s < front[-1][1]:
            front.append((peak, step_s))
    return front


def check(problem: Problem, schedule: Schedule) -> float:
    """Hold a schedule against the bounds at its own peak; returns the share that they prove."""
    run = simulate(problem, schedule)
    tight = with_budget(problem, run.max_peak_bytes)
    like = lower_bounds_like(tight, schedule)
    for found in (like, lower_bounds(tight)):
        for name in ("work_s", "path_s", "transfer_s", "memory_s"):
            assert getattr(found, name) <= run.step_time_s * (1 + 1e-9), name
        assert found.best_s == found.memory_s
    return like.best_s / run.step_time_s
