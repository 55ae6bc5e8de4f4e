"""Random valid plans for property tests."""

from __future__ import annotations

import random

from remora.graph.model_graph import ModelGraph
from remora.schedule.menu import keep_option, offload_option, recompute_option
from remora.schedule.schedule import Action, Group, MemoryPlan, PrecisionPlan, Schedule


def random_schedule(graph: ModelGraph, seed: int, offload: bool = True) -> Schedule:
    """A valid schedule with random options, nested groups, window and distance."""
    rng = random.Random(seed)
    free = [unit.index for unit in graph.units if not unit.fixed_reason]
    groups = random_groups(rng, free[0], free[-1] + 1, 0, offload)
    inside = {i for group in groups for i in range(group.start, group.end)}
    options = []
    for unit in graph.units:
        choices = [keep_option(unit)]
        if not unit.fixed_reason and unit.saved:
            choices.append(recompute_option(unit))
            if offload and unit.index not in inside:
                choices.append(offload_option(graph, unit))
        options.append(rng.choice(choices))
    memory = MemoryPlan(tuple(options), groups, rng.randint(1, 4), rng.randint(1, 3))
    return Schedule(graph.content_hash, memory, precision=PrecisionPlan(graph.precisions))


def random_groups(
    rng: random.Random, start: int, end: int, depth: int, offload: bool
) -> tuple[Group, ...]:
    """Ordered groups inside [start, end), nested up to three deep."""
    groups: list[Group] = []
    position = start
    while position < end and depth < 3:
        first = position + rng.randint(0, 2)
        last = first + rng.randint(1, 5)
        if last > end or (depth and (first, last) == (start, end)):
            break
        checkpoint = Action.OFFLOAD if offload and not depth and rng.random() < 0.3 else Action.KEEP
        groups.append(
            Group(first, last, checkpoint, random_groups(rng, first, last, depth + 1, offload))
        )
        position = last
    return tuple(groups)
