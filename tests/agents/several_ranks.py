"""Small problems of several ranks with a budget between least and most memory."""

from __future__ import annotations

import dataclasses

from remora.hardware.hardware import Link
from remora.schedule.cuts import default_pipeline
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.simulator.floor import floor_peak_bytes
from remora.simulator.simulate import simulate
from tests.pipelines import gpu_hardware
from tests.problems import table, toy_graph

HIDDEN = (256, 16, 192, 32, 256, 16, 64, 128)
BATCH = 256


def ranks_problem(
    ranks: int, share: float, hidden: tuple[int, ...] = HIDDEN, fixed: int | None = None
) -> Problem:
    """Uneven blocks, one unit each, that 1, 2, 4 or 8 micro-batches pass."""
    graphs = {count: toy_graph(hidden, BATCH // count) for count in (1, 2, 4, 8)}
    problem = Problem(
        graphs=graphs,
        costs={
            count: table(graph, copy_bytes_per_s=1e10, time_scale=10.0)
            for count, graph in graphs.items()
        },
        hardware=gpu_hardware(link=Link(1e10, 1e-6)),
        optimizer=OPTIMIZERS["adamw"],
        budget_bytes=1,
        world_size=ranks,
        micro_batches=fixed,
    )
    least = floor_peak_bytes(problem)
    keep = keep_all_schedule(problem.graph, default_pipeline(problem))
    most = simulate(problem, keep).max_peak_bytes
    return dataclasses.replace(problem, budget_bytes=int(least + share * (most - least)))
