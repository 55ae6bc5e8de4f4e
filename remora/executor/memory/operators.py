"""What the runtime has to know of an aten operator to write its calls down and run them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from remora.schedule.closure import LAYOUT_ONLY, RELABELLING, is_collective, is_scratch

__all__ = ["Operator", "OperatorTable"]

Place = tuple[int, str]
"""Position of an argument in the schema, and its name."""

_EMPTY = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})


@dataclass(frozen=True, slots=True)
class Operator:
    """Facts about an operator, from its schema and its tags.

    Attributes:
        name: overload name, as in a graph.
        passes: changes and makes no memory, so that nothing needs to be written down.
        layout_only: looks at the layout of its tensor argument only.
        empty: what it makes has no defined content.
        random: draws from a generator.
        barrier: must not run again.
        written: arguments that it changes.
        scratch: arguments that it changes whatever they hold.
    """

    name: str
    passes: bool
    layout_only: bool
    empty: bool
    random: bool
    barrier: bool
    written: tuple[Place, ...]
    scratch: tuple[Place, ...]


class OperatorTable:
    """Looks operators up once."""

    def __init__(self) -> None:
        self._known: dict[Any, Operator] = {}

    def __getitem__(self, function: Any) -> Operator:
        """Return the facts about an overload."""
        known = self._known.get(function)
        if known is None:
            known = self._known[function] = _operator(function)
        return known


def _operator(function: Any) -> Operator:
    packet = function._overloadpacket.__name__
    places = [(i, a.name) for i, a in enumerate(function._schema.arguments)]
    declared = [
        a.alias_info is not None and a.alias_info.is_write for a in function._schema.arguments
    ]
    scratch = tuple(place for place in places if is_scratch(packet, place[1]))
    written = tuple(
        place
        for place, writes in zip(places, declared, strict=True)
        if writes and place not in scratch
    )
    relabels = packet in RELABELLING
    return Operator(
        name=str(function),
        passes=function.is_view or relabels or function.namespace == "prim",
        layout_only=packet in LAYOUT_ONLY,
        empty=packet in _EMPTY,
        random=torch.Tag.nondeterministic_seeded in function.tags,
        barrier=is_collective(function.namespace),
        written=written,
        scratch=scratch,
    )
