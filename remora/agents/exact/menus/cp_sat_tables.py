"""Which options of a rank's units fit together into its memory.

The memory of a rank follows the order of its own instructions, so its peak depends on the options
of its own units alone: one simulation per combination of them says it all, and says it for all
ranks at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from remora.agents.exact.menus.model import MenuChoices
from remora.schedule.orders import pipeline_order
from remora.schedule.schedule import PipelinePlan
from remora.simulator.compiled import simulator_of

__all__ = ["RankTable", "rank_tables", "units_of_ranks"]

# Combinations that are simulated together, which bounds the memory that takes.
_BATCH = 1024


@dataclass(frozen=True)
class RankTable:
    """The units of a rank and what they may do.

    Attributes:
        units: ascending.
        allowed: indices of their choices.  # [num_allowed][num_units_of_rank]
    """

    units: tuple[int, ...]
    allowed: tuple[tuple[int, ...], ...]


def rank_tables(
    choices: MenuChoices, pipeline: PipelinePlan, pace: tuple[int, int], most: int
) -> list[RankTable] | None:
    """Tables of all ranks; None if one of them would have more than ``most`` combinations."""
    groups = units_of_ranks(pipeline, len(choices.menus))
    sizes = [math.prod(len(choices.menus[unit]) for unit in units) for units in groups]
    if max(sizes) > most:
        return None
    every = [
        list(itertools.product(*(range(len(choices.menus[unit])) for unit in units)))
        for units in groups
    ]
    tables = [RankTable(units, tuple(rows)) for units, rows in zip(groups, every, strict=True)]
    # Ranks that share no unit do not disturb each other in one simulation.
    apart = sum(map(len, groups)) == len(choices.menus)
    ranks = range(len(groups))
    for together in [ranks] if apart else [range(rank, rank + 1) for rank in ranks]:
        fitting = _fitting(choices, pipeline, pace, {rank: tables[rank] for rank in together})
        for rank, rows in fitting.items():
            tables[rank] = RankTable(groups[rank], tuple(rows))
    return tables


def units_of_ranks(pipeline: PipelinePlan, num_units: int) -> list[tuple[int, ...]]:
    """Units of every rank of a pipeline."""
    order = pipeline_order(
        pipeline.kind, pipeline.num_ranks, pipeline.micro_batches, pipeline.chunks
    )
    spans = pipeline.spans(num_units)
    found: list[set[int]] = [set() for _ in range(pipeline.num_ranks)]
    for number, rank in enumerate(order.stage_rank.tolist()):
        found[rank].update(range(*spans[number % len(spans)]))
    return [tuple(sorted(units)) for units in found]


def _fitting(
    choices: MenuChoices,
    pipeline: PipelinePlan,
    pace: tuple[int, int],
    tables: Mapping[int, RankTable],
) -> Mapping[int, list[tuple[int, ...]]]:
    """The combinations of some ranks that fit, each rank's next one in every simulation."""
    problem = choices.problem
    simulator = simulator_of(problem)
    found: dict[int, list[tuple[int, ...]]] = {rank: [] for rank in tables}
    count = max(len(table.allowed) for table in tables.values())
    for begin in range(0, count, _BATCH):
        places = range(begin, min(begin + _BATCH, count))
        schedules = []
        for place in places:
            chosen = [0] * len(choices.menus)
            for table in tables.values():
                row = table.allowed[place % len(table.allowed)]
                for unit, index in zip(table.units, row, strict=True):
                    chosen[unit] = index
            schedules.append(choices.schedule(chosen, *pace, pipeline))
        for place, figures in zip(places, simulator.batch(schedules), strict=True):
            for rank, table in tables.items():
                on_device = figures.peak_bytes[rank] <= problem.budget_bytes
                on_host = figures.host_peak_bytes[rank] <= problem.hardware.host.memory_bytes
                if place < len(table.allowed) and on_device and on_host:
                    found[rank].append(table.allowed[place])
    return found
