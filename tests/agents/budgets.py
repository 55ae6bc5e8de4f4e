"""Problems with a budget between the least and the most memory they can use."""

from __future__ import annotations

import dataclasses

from remora.graph.model_graph import ModelGraph
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.simulator.floor import floor_peak_bytes
from remora.simulator.simulate import simulate
from tests.problems import cpu_hardware, problem_of, table, toy_graph

UNEVEN = (256, 16, 192, 32)
"""Hidden widths of four blocks; with the head, and what surrounds them, at most six units."""


def uneven_graph() -> ModelGraph:
    return toy_graph(UNEVEN, batch=256)


def at_range(problem: Problem, share: float) -> Problem:
    """The problem with a budget at ``share`` of the way from the floor to keep-all."""
    least = floor_peak_bytes(problem)
    most = simulate(problem, keep_all_schedule(problem.graph)).max_peak_bytes
    return dataclasses.replace(problem, budget_bytes=int(least + share * (most - least)))


def uneven_problem(share: float, host_pool: str = "emulated", seconds: float = 10.0) -> Problem:
    """The uneven chain; ``seconds`` scales compute against copies."""
    graph = uneven_graph()
    problem = problem_of(
        graph,
        hardware=cpu_hardware(host_pool),
        costs=table(graph, copy_bytes_per_s=1e10, time_scale=seconds),
    )
    return at_range(problem, share)


def with_fixed_unit(graph: ModelGraph, index: int) -> ModelGraph:
    """The graph with one unit that may neither be recomputed nor offloaded."""
    units = list(graph.units)
    units[index] = dataclasses.replace(units[index], fixed_reason="not a module call")
    return dataclasses.replace(graph, units=tuple(units))
