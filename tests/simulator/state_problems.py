"""A chain of four blocks and a head whose times and sizes can be typed in, for tests of state.

Every block has 2160 weights, the head 68; the last unit is the loss and has none.
"""

from __future__ import annotations

import dataclasses
import functools

import torch

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.hardware import Link
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.schedule import PipelinePlan, Schedule, StatePlan
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.pipelines import gpu_hardware
from tests.problems import BlockChain, table, toy_graph

BLOCK = 32 + (64 * 16 + 64) + (16 * 64 + 16)
"""Weights of a block: norm, up, down."""
HEAD = 4 * 16 + 4
NUM_BLOCKS = 4
UNITS = NUM_BLOCKS + 1
"""Units with weights."""
WEIGHTS = NUM_BLOCKS * BLOCK + HEAD
"""All of them, as numbers of values."""


def block_graph() -> ModelGraph:
    return toy_graph((64,) * NUM_BLOCKS)


@functools.lru_cache(maxsize=1)
def short_block_graph() -> ModelGraph:
    """The same in bfloat16."""
    model = BlockChain((64,) * NUM_BLOCKS).bfloat16()
    return trace(model, (torch.randn(8, 16).bfloat16(),))


def state_problem(
    graph: ModelGraph,
    world_size: int = 1,
    forward_s: float = 0.0,
    backward_s: float = 0.0,
    *,
    copy_s: float = 0.0,
    ring_step_s: float = 0.0,
    optimizer: str = "adamw",
    optimizer_s: float = 0.0,
    host_optimizer_s: float = 0.0,
    micro_batches: int = 1,
) -> Problem:
    """Every unit with weights takes the given times, the loss none.

    A copy takes ``copy_s`` and a step of a ring ``ring_step_s``, however large.
    """
    times = [0.0] * len(graph.ops)
    for unit in graph.units[:UNITS]:
        times[unit.forward[0]] = forward_s
        times[unit.backward[0]] = backward_s
    costs = dataclasses.replace(
        table(graph, copy_bytes_per_s=float("inf")),
        op_time_s=tuple(times),
        copy_latency_s=copy_s,
        optimizer_time_s=optimizer_s,
        host_optimizer_time_s=host_optimizer_s,
        saved_tensor_overhead_s=0.0,
    )
    counts = {1, micro_batches}
    return Problem(
        graphs=dict.fromkeys(counts, graph),
        costs=dict.fromkeys(counts, costs),
        hardware=gpu_hardware(link=Link(float("inf"), ring_step_s)),
        optimizer=OPTIMIZERS[optimizer],
        budget_bytes=2**40,
        world_size=world_size,
    )


def run_state(problem: Problem, state: StatePlan | None = None, micro_batches: int = 1) -> Timeline:
    keep = keep_all_schedule(problem.graph).memory
    pipeline = PipelinePlan(micro_batches=micro_batches)
    schedule = Schedule(problem.graph.content_hash, keep, pipeline, state or StatePlan())
    return simulate(problem, schedule)


def resident(timeline: Timeline, kind: MemoryKind, rank: int = 0) -> int:
    """Bytes of a kind before anything has run."""
    first = timeline.memory[rank][0].by_kind
    return first.get(kind, 0)


def peak_of(timeline: Timeline, kind: MemoryKind, rank: int = 0) -> int:
    return max(sample.by_kind.get(kind, 0) for sample in timeline.memory[rank])


def count(timeline: Timeline, kind: InstructionKind) -> int:
    return sum(1 for event in timeline.events if event.instruction.kind is kind)
