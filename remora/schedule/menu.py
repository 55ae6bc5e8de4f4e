"""The memory options of a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.graph.model_graph import ModelGraph, Unit
from remora.schedule.recompute import is_recompute
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption

__all__ = [
    "is_recompute",
    "keep_all_schedule",
    "keep_option",
    "offload_option",
    "recompute_option",
    "unit_menu",
]

if TYPE_CHECKING:
    from remora.schedule.problem import Problem

MIN_OFFLOAD_BYTES = 4096
"""A smaller saved tensor stays: the copy's latency costs more than its bytes."""


def keep_option(unit: Unit) -> UnitOption:
    """Keep every saved tensor."""
    return UnitOption(tuple((saved.name, Action.KEEP) for saved in unit.saved))


def recompute_option(unit: Unit) -> UnitOption:
    """Keep nothing and run the unit again from its inputs."""
    return UnitOption(tuple((saved.name, Action.RECOMPUTE) for saved in unit.saved))


def offload_option(graph: ModelGraph, unit: Unit) -> UnitOption:
    """Move every saved activation of some size to the host; keep parameters and small ones."""
    return UnitOption(
        tuple(
            (
                saved.name,
                Action.OFFLOAD if _can_move(graph, graph.storage_of(saved)) else Action.KEEP,
            )
            for saved in unit.saved
        )
    )


def unit_menu(problem: Problem, unit: Unit) -> tuple[UnitOption, ...]:
    """Options of ``unit``, keep first; only keep where nothing else helps or is allowed."""
    options = [keep_option(unit)]
    if unit.fixed_reason or not problem.chain.units[unit.index].saved:
        return tuple(options)
    options.append(recompute_option(unit))
    offload = offload_option(problem.graph, unit)
    if problem.hardware.can_offload and Action.OFFLOAD in offload.distinct:
        options.append(offload)
    return tuple(options)


def keep_all_schedule(graph: ModelGraph) -> Schedule:
    """The schedule that changes nothing."""
    return Schedule(graph.content_hash, MemoryPlan(tuple(keep_option(u) for u in graph.units)))


def _can_move(graph: ModelGraph, storage: int) -> bool:
    record = graph.storages[storage]
    return record.created >= 0 and record.num_bytes >= MIN_OFFLOAD_BYTES
