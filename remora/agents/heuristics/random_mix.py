"""Random plans without a budget: options, nested groups and offloaded checkpoints, all mixed."""

from __future__ import annotations

from random import Random

from remora.schedule.menu import unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group, MemoryPlan, PrecisionPlan, Schedule, TensorPlan

__all__ = ["random_mix"]


def random_mix(
    problem: Problem, rng: Random, keep_share: float = 0.0, grouped: bool = True
) -> Schedule:
    """Draw a plan of one device that uses everything a schedule can say, lossy copies left out.

    Args:
        problem: its budget plays no part.
        rng: of the draws.
        keep_share: units outside of groups that keep everything, whatever is drawn.
        grouped: whether consecutive units are recomputed together.
    """
    units = problem.graph.units
    groups = _groups(problem, rng) if grouped else []
    inside = {i for group in groups for i in range(group.start, group.end)}
    options = []
    for unit in units:
        menu = unit_menu(problem, unit)
        keeps = unit.index not in inside and rng.random() < keep_share
        options.append(menu[0] if keeps else rng.choice(menu[:2] if unit.index in inside else menu))
    memory = MemoryPlan(tuple(options), tuple(groups), rng.randint(1, 3), rng.randint(1, 2))
    tensor = TensorPlan(problem.graph.tensor_degree)
    precision = PrecisionPlan(problem.graph.precisions)
    return Schedule(problem.graph.content_hash, memory, tensor=tensor, precision=precision)


def _groups(problem: Problem, rng: Random) -> list[Group]:
    movable = [unit.index for unit in problem.graph.units if not unit.fixed_reason]
    last = max(movable, default=0)
    groups: list[Group] = []
    start = rng.randint(0, 2)
    while start < last - 1:
        end = min(start + rng.randint(2, 5), last + 1)
        inner = (Group(start, start + (end - start) // 2),) if end - start > 3 else ()
        checkpoint = Action.OFFLOAD if rng.random() < 0.3 else Action.KEEP
        groups.append(Group(start, end, checkpoint, inner))
        start = end + rng.randint(1, 4)
    return groups
