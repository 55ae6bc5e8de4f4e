"""From a traced model to the problem that schedulers are given."""

from __future__ import annotations

from dataclasses import replace

from remora.api.budget import Budget, resolve_budget
from remora.errors import InvalidInputError, UnknownNameError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, CostTable, OptimizerSpec, Problem
from remora.simulator.floor import floor_peak_bytes
from remora.simulator.simulate import simulate

__all__ = ["check_world_size", "find_optimizer", "make_problem", "with_budget"]


def find_optimizer(name: str | None) -> OptimizerSpec:
    """Return what an optimizer adds to memory; None leaves the optimizer out of the count.

    Raises:
        UnknownNameError: no such optimizer.
    """
    key = "none" if name is None else name
    if key not in OPTIMIZERS:
        raise UnknownNameError("optimizer", key, OPTIMIZERS)
    return OPTIMIZERS[key]


def make_problem(
    graph: ModelGraph,
    costs: CostTable,
    hardware: Hardware,
    optimizer: OptimizerSpec,
    budget: Budget,
    world_size: int = 1,
) -> Problem:
    """Put a planning problem together and turn its budget into bytes.

    Args:
        graph: of the whole batch.
        costs: of ``graph`` on ``hardware``.
        hardware: what is planned for.
        optimizer: what it keeps.
        budget: memory per device.
        world_size: number of ranks.

    Raises:
        InvalidInputError: the world size is not allowed.
    """
    check_world_size(world_size)
    # The budget of the problem plays no part in the peaks that a budget refers to.
    problem = Problem({1: graph}, {1: costs}, hardware, optimizer, 0, world_size)
    return with_budget(problem, budget)


def check_world_size(world_size: int) -> None:
    """Refuse to plan for several ranks.

    Raises:
        InvalidInputError: the world size is not 1.
    """
    if world_size != 1:
        raise InvalidInputError(
            f"world_size is {world_size}; allowed: 1 (schedules of several ranks are simulated, "
            "but no scheduler plans them yet)"
        )


def with_budget(problem: Problem, budget: Budget) -> Problem:
    """Return the same problem under another budget.

    Args:
        problem: its own budget plays no part.
        budget: memory per device.
    """

    def keep_all_peak_bytes() -> int:
        return simulate(problem, keep_all_schedule(problem.graph)).max_peak_bytes

    budget_bytes = resolve_budget(
        budget, problem.hardware, keep_all_peak_bytes, lambda: floor_peak_bytes(problem)
    )
    return replace(problem, budget_bytes=budget_bytes)
