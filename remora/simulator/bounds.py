"""Lower bounds on the step time that no schedule can beat."""

from __future__ import annotations

from remora.schedule.problem import Problem


def lower_bound_s(problem: Problem) -> float:
    """A step time that no schedule of the problem goes below.

    The work of one step, forward and backward once and the optimizer, divided over the ranks. A
    schedule only ever adds to it (recomputation, waits), so keeping everything attains it.
    """
    chain = problem.chain
    work = sum(unit.forward_s + unit.backward_s for unit in chain.units)
    optimizer = problem.cost.optimizer_time_s if problem.optimizer.counted else 0.0
    return (work + optimizer) / problem.world_size
