"""What the bounds know of a chain, whatever the budget and the placement of the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from remora.schedule.chain import Chain
from remora.simulator.bounds.backward_points import BackwardPoint, backward_points
from remora.simulator.bounds.freeable import Freeable, Pinned, freeable_storages

__all__ = ["ChainTables", "chain_tables"]


@dataclass(frozen=True)
class ChainTables:
    """Tables of one chain.

    Attributes:
        chain: the units.
        points: starts of the backwards.  # [num_units]
        groups: what can be free.
        pinned: what units hold that must keep everything.
    """

    chain: Chain
    points: Sequence[BackwardPoint]
    groups: Sequence[Freeable]
    pinned: Pinned

    @cached_property
    def forward_s(self) -> float:
        """Seconds of all forwards."""
        return sum(unit.forward_s for unit in self.chain.units)

    @cached_property
    def backward_s(self) -> float:
        """Seconds of all backwards."""
        return sum(unit.backward_s for unit in self.chain.units)

    @cached_property
    def free_bytes(self) -> Sequence[int]:
        """What could be free at each point if all of it were.  # [num_units]."""
        return [sum(g.num_bytes for g in self.free_at(p)) for p in range(len(self.points))]

    def free_at(self, position: int) -> list[Freeable]:
        """The groups that can be free at the start of the backward of a unit."""
        return [g for g in self.groups if g.low < position and position not in g.present_at]


def chain_tables(chain: Chain, lossy: bool) -> ChainTables:
    """Tables of a chain, made once.

    Args:
        chain: per-unit tables.
        lossy: whether compression is allowed.
    """
    key = ("lower bounds", lossy)
    if key not in chain.memo:
        points = backward_points(chain)
        groups, pinned = freeable_storages(chain, points, lossy)
        chain.memo[key] = ChainTables(chain, points, groups, pinned)
    found: ChainTables = chain.memo[key]
    return found
