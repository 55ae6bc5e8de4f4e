"""Chains of equal stages with typed-in times, and problems of several ranks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware, Link
from remora.schedule.backward_split import split_backward
from remora.schedule.costs import CostTable
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule
from tests.problems import cpu_hardware, table, toy_graph

INSTANT = Link(bandwidth_bytes_per_s=float("inf"), latency_s=0.0)


def gpu_hardware(ranks: int = 64, link: Link = INSTANT, node_link: Link | None = None) -> Hardware:
    """Devices whose copies overlap with computation."""
    base = cpu_hardware(device_type="cuda", host_pool="pinned")
    return dataclasses.replace(
        base,
        devices_per_node=ranks,
        link=link,
        node_link=link if node_link is None else node_link,
        host=dataclasses.replace(base.host, unified=False),
    )


@functools.lru_cache(maxsize=8)
def equal_graph(num_stages: int) -> ModelGraph:
    """Two equal blocks per stage, the head in the last one."""
    return toy_graph((32,) * (2 * num_stages), batch=4)


def equal_cuts(num_stages: int) -> tuple[int, ...]:
    return tuple(range(2, 2 * num_stages, 2))


def equal_costs(
    graph: ModelGraph, num_stages: int, forward_s: float, input_s: float, weight_s: float
) -> CostTable:
    """Costs under which every stage takes the same times."""
    times = [0.0] * len(graph.ops)
    for stage in range(num_stages):
        units = graph.units[2 * stage : 2 * stage + 2]
        times[units[0].forward[0]] = forward_s
        # The very first unit has no gradient of an input, so the second one carries the time.
        split = split_backward(graph, units[1])
        times[_whole(split.inputs.ops, split.inputs.shares)] = input_s
        times[_whole(split.weights.ops, split.weights.shares)] = weight_s
    return dataclasses.replace(
        table(graph), op_time_s=tuple(times), optimizer_time_s=0.0, copy_latency_s=0.0
    )


def equal_problem(
    ranks: int,
    micro_batches: int,
    chunks: int = 1,
    forward_s: float = 1.0,
    input_s: float = 1.0,
    weight_s: float = 1.0,
    world_size: int | None = None,
) -> Problem:
    """A problem of ``ranks * chunks`` equal stages; messages and the optimizer take no time.

    The times are those of one rank and micro-batch: a chunk takes its share of them.
    """
    stages = ranks * chunks
    graph = equal_graph(stages)
    costs = equal_costs(graph, stages, forward_s / chunks, input_s / chunks, weight_s / chunks)
    return Problem(
        graphs={1: graph, micro_batches: graph},
        costs={1: costs, micro_batches: costs},
        hardware=gpu_hardware(),
        optimizer=OPTIMIZERS["sgd"],
        budget_bytes=2**40,
        world_size=world_size or ranks,
    )


def equal_schedule(
    graph: ModelGraph, kind: PipelineKind, ranks: int, micro_batches: int, chunks: int = 1
) -> Schedule:
    pipeline = PipelinePlan(kind, equal_cuts(ranks * chunks), chunks, micro_batches)
    return dataclasses.replace(keep_all_schedule(graph), pipeline=pipeline)


def _whole(ops: Iterable[int], shares: Iterable[float]) -> int:
    """An operator that falls into one half only."""
    return next(op for op, share in zip(ops, shares, strict=True) if share == 1.0)
