"""From a traced model to the problem that schedulers are given."""

from __future__ import annotations

from collections.abc import Mapping

from remora.api.budget import Budget, resolve_budget
from remora.errors import UnknownNameError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.cuts import standard_pipeline
from remora.schedule.inference import InferenceSpec, Mode
from remora.schedule.menu import keep_all_schedule
from remora.schedule.pass_space import PassSpace
from remora.schedule.problem import OPTIMIZERS, CostTable, OptimizerSpec, Problem
from remora.schedule.schedule import PipelinePlan, Schedule
from remora.simulator.floor import floor_schedule
from remora.simulator.simulate import simulate

__all__ = ["find_optimizer", "make_problem", "with_budget"]


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
    graphs: Mapping[int, ModelGraph],
    costs: Mapping[int, CostTable],
    hardware: Hardware,
    optimizer: OptimizerSpec,
    budget: Budget,
    world_size: int = 1,
    micro_batches: int | None = None,
    replicas: int | None = None,
    inference: InferenceSpec | None = None,
) -> Problem:
    """Put a planning problem together and turn its budget into bytes.

    Args:
        graphs: by number of micro-batches.
        costs: of those graphs on ``hardware``.
        hardware: what is planned for.
        optimizer: what it keeps.
        budget: memory per device.
        world_size: number of ranks.
        micro_batches: the only number that schedules may have, or None.
        replicas: the only number of data-parallel replicas, or None.
        inference: tokens and cache, for graphs of passes; None for steps of training.

    Raises:
        InvalidInputError: there is no pipeline that the budget could refer to.
    """
    # The budget of the problem plays no part in the peaks that a budget refers to.
    problem = Problem(
        graphs,
        costs,
        hardware,
        optimizer,
        0,
        world_size,
        micro_batches,
        inference=inference,
        replicas=replicas,
    )
    return with_budget(problem, budget)


def with_budget(problem: Problem, budget: Budget) -> Problem:
    """Return the same problem under another budget.

    Shares and ranges refer to the fullest rank of the standard pipeline, which is no pipeline
    where there is one rank. The low end of a range is what recomputation reaches with the state on
    the device, and in inference what is left with every weight and cache on the host.

    Args:
        problem: its own budget plays no part.
        budget: memory per device.

    Raises:
        InvalidInputError: a share or range, and there is no such pipeline.
    """

    def peak_bytes(schedule: Schedule) -> int:
        return simulate(problem, schedule).max_peak_bytes

    budget_bytes = resolve_budget(
        budget,
        problem.hardware,
        lambda: peak_bytes(keep_all_schedule(problem.graph, standard_pipeline(problem))),
        lambda: peak_bytes(_leanest(problem, standard_pipeline(problem))),
    )
    return problem.with_budget(budget_bytes)


def _leanest(problem: Problem, pipeline: PipelinePlan) -> Schedule:
    """The schedule at the low end of a range."""
    if problem.mode is Mode.TRAIN:
        return floor_schedule(problem, pipeline)
    space = PassSpace(problem)
    return space.build(pipeline, space.everything)
