"""Small problems of one device: toy chains and tiny models of the zoo."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from remora.envs.batch import EpisodeBatch
from remora.envs.observation import JointSize
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import BudgetDraw, JointSampler
from remora.graph.model_graph import ModelGraph
from remora.schedule.costs import CostTable
from remora.schedule.problem import OPTIMIZERS, Problem
from tests.problems import cpu_hardware, table, toy_graph, zoo_graph

SIZE = JointSize(max_units=24, max_edges=96)
GRAPHS = ("toy", "narrow", "unet_tiny", "gpt2_tiny", "t5_tiny")


def graph_of(name: str) -> ModelGraph:
    toys = {"toy": (96, 16, 160, 48, 64), "narrow": (4,) * 8}
    return toy_graph(toys[name], batch=256) if name in toys else zoo_graph(name)


def costs_of(graph: ModelGraph) -> CostTable:
    return dataclasses.replace(
        table(graph), host_optimizer_time_s=1e-3, recorded_op_overhead_s=1e-8
    )


@functools.lru_cache(maxsize=16)
def tables_of(name: str, optimizer: str = "adamw") -> ProblemTables:
    """A problem in which every place of the state and, at equal sizes, some counts are allowed."""
    graph = graph_of(name)
    problem = Problem(
        graphs=dict.fromkeys((1, 2), graph),
        costs=dict.fromkeys((1, 2), costs_of(graph)),
        hardware=cpu_hardware(device_type="cuda"),
        optimizer=OPTIMIZERS[optimizer],
        budget_bytes=2**36,
        allow_lossy=True,
    )
    return ProblemTables(f"{name}/{optimizer}", problem)


@functools.lru_cache(maxsize=4)
def sampler_of(*names: str) -> JointSampler:
    return JointSampler([tables_of(name) for name in names], BudgetDraw(0.0, 0.4))


def random_action(batch: EpisodeBatch, generator: np.random.Generator, place: int = 0) -> int:
    """An allowed action; groups are kept open now and then, so that some get long."""
    allowed = np.flatnonzero(batch.masks[place])
    if 1 in allowed and generator.random() < 0.4:
        return 1
    return int(generator.choice(allowed))


def played_out(batch: EpisodeBatch, generator: np.random.Generator, random_steps: int) -> None:
    """Act at random for some steps, then follow the completion to the end."""
    steps = 0
    while batch.phase(0).name != "DONE":
        assert batch.masks[0].any()
        random = steps < random_steps
        action = random_action(batch, generator) if random else batch.fallback(0)
        batch.step(np.array([action]))
        steps += 1
