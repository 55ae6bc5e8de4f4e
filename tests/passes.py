"""Problems of inference: toy chains and zoo models traced without a backward."""

from __future__ import annotations

import dataclasses
import functools
import random

import torch

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware, Link
from remora.schedule.costs import CostTable
from remora.schedule.inference import InferenceSpec
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Placement, Schedule, StatePlan
from remora.zoo import build_target
from tests.pipelines import gpu_hardware
from tests.problems import BlockChain, table
from tests.zoo.model_files import load

NUM_BLOCKS = 6
BLOCK_BYTES = 4 * (32 + (64 * 16 + 64) + (16 * 64 + 16))
"""Weights of a block of the toy chain."""
LINKS = (Link(1e8, 1e-6), Link(1e7, 1e-5))


@functools.lru_cache(maxsize=8)
def pass_graph(name: str = "toy") -> ModelGraph:
    """The forward of a chain of equal blocks and a head, or of a model of the zoo."""
    torch.manual_seed(0)
    if name == "toy":
        model = BlockChain((64,) * NUM_BLOCKS).eval()
        return trace(model, (torch.randn(8, 16),), forward_only=True)
    values = load("model", name)
    example = build_target(values["target"], values["values"])
    inputs = example.example_inputs
    return trace(example.model.eval(), inputs, model_name=name, forward_only=True)


def timed_costs(graph: ModelGraph, unit_s: tuple[float, ...], copy_s: float = 0.0) -> CostTable:
    """Every unit takes the given time; a copy takes ``copy_s``, however large."""
    times = [0.0] * len(graph.ops)
    for unit, seconds in zip(graph.units, unit_s, strict=True):
        times[unit.forward[0]] = seconds
    base = table(graph, copy_bytes_per_s=float("inf"))
    return dataclasses.replace(base, op_time_s=tuple(times), copy_latency_s=copy_s)


def pass_problem(
    graph: ModelGraph | None = None,
    costs: CostTable | None = None,
    spec: InferenceSpec | None = None,
    *,
    budget_bytes: int = 2**36,
    world_size: int = 1,
    micro_batches: tuple[int, ...] = (1,),
    hardware: Hardware | None = None,
) -> Problem:
    """A problem of inference."""
    graph = graph or pass_graph()
    return Problem(
        graphs=dict.fromkeys(micro_batches, graph),
        costs=dict.fromkeys(micro_batches, costs or table(graph)),
        hardware=hardware or gpu_hardware(),
        optimizer=OPTIMIZERS["none"],
        budget_bytes=budget_bytes,
        world_size=world_size,
        inference=spec or InferenceSpec(sequences=8),
    )


def pass_schedule(
    problem: Problem,
    streamed: tuple[int, ...] = (),
    host_caches: tuple[int, ...] = (),
    *,
    cuts: tuple[int, ...] = (),
    micro_batches: int = 1,
    window: int = 2,
    distance: int = 1,
) -> Schedule:
    """A schedule of a pass."""
    kind = PipelineKind.GPIPE if cuts else PipelineKind.NONE
    keep = keep_all_schedule(problem.graph, PipelinePlan(kind, cuts, 1, micro_batches))
    memory = dataclasses.replace(keep.memory, offload_window=window, prefetch_distance=distance)
    weights = Placement.HOST if streamed else Placement.DEVICE
    state = StatePlan(weights=weights, streamed_units=streamed, host_caches=host_caches)
    return dataclasses.replace(keep, memory=memory, state=state)


def random_pass(problem: Problem, seed: int) -> Schedule:
    """Any schedule of the language of passes."""
    rng = random.Random(seed)
    spec, num_units = problem.inference, len(problem.graph.units)
    assert spec is not None
    able = [u for u in range(num_units) if problem.chain.statics.weights_of((u,))]
    caching = [u for u in range(num_units) if spec.cache_of(u, 1).held]
    ranks = rng.choice([p for p in (1, 2, 4, 8) if problem.world_size % p == 0 and p <= num_units])
    schedule = pass_schedule(
        problem,
        tuple(sorted(rng.sample(able, rng.randint(0, len(able))))),
        tuple(sorted(rng.sample(caching, rng.randint(0, len(caching))))),
        cuts=tuple(sorted(rng.sample(range(1, num_units), ranks - 1))),
        micro_batches=rng.choice(sorted(problem.graphs)),
        window=rng.randint(1, 3),
        distance=rng.randint(1, 3),
    )
    if rng.random() < 0.5:
        return schedule
    paces = tuple((rng.randint(1, 4), rng.randint(1, 4)) for _ in range(ranks))
    return dataclasses.replace(schedule, memory=dataclasses.replace(schedule.memory, paces=paces))
