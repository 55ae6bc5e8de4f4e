"""Small problems of several ranks: toy chains and tiny models of the zoo."""

from __future__ import annotations

import dataclasses
import functools

from remora.envs.problem_tables import ProblemTables
from remora.hardware.hardware import Hardware, Link
from remora.schedule.problem import OPTIMIZERS, Problem
from tests.envs.problems import costs_of, graph_of
from tests.problems import cpu_hardware


def hardware_of(ranks: int) -> Hardware:
    """Nodes of two devices, with slower links between nodes."""
    return dataclasses.replace(
        cpu_hardware(device_type="cuda"),
        devices_per_node=min(ranks, 2),
        link=Link(1e9, 1e-6),
        node_link=Link(2e8, 1e-5),
    )


@functools.lru_cache(maxsize=16)
def pipelines_of(
    name: str, ranks: int, optimizer: str = "adamw", counts: tuple[int, ...] = (1, 2, 4, 8)
) -> ProblemTables:
    """A problem in which, at equal sizes, some counts and all kinds for them are allowed."""
    graph = graph_of(name)
    problem = Problem(
        graphs=dict.fromkeys(counts, graph),
        costs=dict.fromkeys(counts, costs_of(graph)),
        hardware=hardware_of(ranks),
        optimizer=OPTIMIZERS[optimizer],
        budget_bytes=2**36,
        world_size=ranks,
        allow_lossy=True,
    )
    return ProblemTables(f"{name}/{ranks}", problem)
