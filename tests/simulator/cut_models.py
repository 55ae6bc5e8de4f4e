"""Real models cut into stages over links on which seconds are bytes."""

from __future__ import annotations

from typing import Any

from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Link
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.program import Instruction, InstructionKind
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule, StatePlan
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.pipelines import gpu_hardware
from tests.problems import table

BYTE_PER_SECOND = Link(1.0, 0.0)
"""A message over it takes as many seconds as it has bytes."""

HIDDEN = 131072
"""Bytes of the activations between blocks of GPT-2 and between encoder blocks of T5 (tiny)."""
EMBEDDING = 262144
"""Bytes of their embeddings, which the head shares."""


def plan_of(
    graph: ModelGraph,
    kind: PipelineKind,
    cuts: tuple[int, ...],
    micro_batches: int,
    replicas: int = 1,
    chunks: int = 1,
    zero_stage: int = 0,
) -> tuple[Problem, Schedule]:
    """A model cut into stages over links of one byte per second."""
    pipeline = PipelinePlan(kind, cuts, chunks, micro_batches)
    counts = {1, micro_batches}
    problem = Problem(
        graphs=dict.fromkeys(counts, graph),
        costs=dict.fromkeys(counts, table(graph)),
        hardware=gpu_hardware(link=BYTE_PER_SECOND),
        optimizer=OPTIMIZERS["adamw"],
        budget_bytes=2**40,
        world_size=pipeline.num_ranks * replicas,
    )
    memory, state = keep_all_schedule(graph).memory, StatePlan(zero_stage=zero_stage)
    return problem, Schedule(graph.content_hash, memory, pipeline, state)


def cut(*plan: Any, **more: Any) -> Timeline:
    """Run what :func:`plan_of` makes of the same arguments."""
    return simulate(*plan_of(*plan, **more))


def sends(timeline: Timeline) -> list[Instruction]:
    return [e.instruction for e in timeline.events if e.instruction.kind is InstructionKind.SEND]


def sent_bytes(timeline: Timeline) -> list[list[int]]:
    """Bytes of every message of each rank's first micro-batch, sorted."""
    ranks = range(len(timeline.memory))
    return [
        sorted(
            round(m.duration_s) for m in sends(timeline) if m.rank == rank and m.micro_batch == 0
        )
        for rank in ranks
    ]
