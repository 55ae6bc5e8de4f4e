"""Compile the kernels on a tiny model; later processes find them in numba's cache."""

from __future__ import annotations

from remora.schedule.menu import keep_all_schedule
from remora.simulator.compiled.figures import CompiledSimulator
from remora.simulator.compiled.tiny_problem import tiny_problem

__all__ = ["compile_kernels"]


def compile_kernels() -> None:
    """Simulate one schedule, which compiles all that is not in the cache."""
    problem = tiny_problem(0.0)
    CompiledSimulator(problem).figures(keep_all_schedule(problem.graph))
