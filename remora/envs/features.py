"""Edges of unit graphs."""

from __future__ import annotations

from remora.schedule.chain import Chain

__all__ = ["unit_edges"]


def unit_edges(chain: Chain) -> dict[tuple[int, int], int]:
    """Bytes that one unit reads of another's results; neighbours are always listed."""
    size = {(i, i + 1): 0 for i in range(len(chain.units) - 1)}
    for unit in chain.units:
        for storage in unit.inputs:
            edge = (chain.creator_unit[storage], unit.index)
            size[edge] = size.get(edge, 0) + chain.num_bytes(storage)
    return size
