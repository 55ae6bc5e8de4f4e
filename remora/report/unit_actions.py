"""What a schedule does to single units, counted and in words."""

from __future__ import annotations

from collections import Counter

from remora.graph.model_graph import ModelGraph, Unit
from remora.schedule.recompute import effective_actions, is_recompute
from remora.schedule.schedule import Action, MemoryPlan, UnitOption

__all__ = [
    "KEPT",
    "OFFLOADED",
    "PARTLY",
    "RECOMPUTED",
    "SEVERAL",
    "actions_text",
    "fate",
    "fates",
]

KEPT = "kept"
RECOMPUTED = "recomputed"
OFFLOADED = "offloaded"
COMPRESSED = "compressed"
PARTLY = "partly recomputed"
SEVERAL = "with several actions"

_ORDER = (Action.RECOMPUTE, Action.OFFLOAD, Action.COMPRESS)


def fate(graph: ModelGraph, unit: Unit, option: UnitOption, grouped: bool) -> str:
    """Return the one of :data:`KEPT` and its siblings that says best what happens to a unit.

    Args:
        graph: the unit's graph.
        unit: the unit.
        option: its memory option.
        grouped: it lies in a recompute group.
    """
    counts = _counts(graph, unit, option)
    if grouped or is_recompute(option):
        return RECOMPUTED
    acted = [action for action in _ORDER if counts[action]]
    if len(acted) > 1:
        return SEVERAL
    if acted == [Action.RECOMPUTE]:
        return RECOMPUTED if counts.total() == counts[Action.RECOMPUTE] else PARTLY
    names = {Action.OFFLOAD: OFFLOADED, Action.COMPRESS: COMPRESSED}
    return names[acted[0]] if acted else KEPT


def fates(graph: ModelGraph, memory: MemoryPlan) -> Counter[str]:
    """Count the units of a plan by what happens to them; see :func:`fate`."""
    groups = [group for top in memory.groups for group in top.walk()]
    grouped = {unit for group in groups for unit in range(group.start, group.end)}
    return Counter(
        fate(graph, unit, option, unit.index in grouped)
        for unit, option in zip(graph.units, memory.options, strict=True)
    )


def actions_text(graph: ModelGraph, unit: Unit, option: UnitOption, grouped: bool) -> str:
    """Say what happens to the activations that a unit saves.

    Returns:
        One word if the same happens to all, else for example ``recompute 5 of 9 saved tensors,
        offload 1``; what is not named is kept.
    """
    if is_recompute(option):
        return str(Action.RECOMPUTE)
    if grouped:
        return "recompute with its group"
    counts = _counts(graph, unit, option)
    acted = [action for action in _ORDER if counts[action]]
    if not acted:
        return str(Action.KEEP)
    if counts[acted[0]] == counts.total():
        return str(acted[0])
    first, *others = acted
    texts = [f"{first} {counts[first]} of {counts.total()} saved tensors"]
    return ", ".join([*texts, *(f"{action} {counts[action]}" for action in others)])


def _counts(graph: ModelGraph, unit: Unit, option: UnitOption) -> Counter[Action]:
    """Saved tensors by what really happens to them; weights and inputs are not counted."""
    by_storage = effective_actions(graph, unit, option)
    storages = (graph.storage_of(saved) for saved in unit.saved)
    return Counter(by_storage[storage] for storage in storages if storage in by_storage)
