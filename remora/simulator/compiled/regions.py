"""Recompute regions of an encoded plan: its groups, and every unit that recomputes everything."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.columns import END, INNER, OFFLOAD, OUTER, PARENT, START
from remora.simulator.compiled.jit import kernel

__all__ = ["RegionArrays", "child_at", "fill_regions"]

Ints = NDArray[np.int64]


class RegionArrays(NamedTuple):
    """Regions; groups come first, outer before inner.

    Attributes:
        region: first unit, end, 1 if the checkpoint waits on the host, region around it (-1 for
            none).  # [regions][4]
        unit: innermost and outermost region of every unit, -1 for none.  # [n][2]
    """

    region: Ints
    unit: Ints


@kernel
def fill_regions(table: Ints, unit_regions: Ints, rows: Ints, groups: Ints) -> int:
    """Find the regions of a plan.

    Args:
        table: to fill; see ``RegionArrays.region``.  # [at least regions][4]
        unit_regions: to fill; see ``RegionArrays.unit``.  # [n][2]
        rows: row of every unit's option, negative where it recomputes everything.  # [n]
        groups: start, end, offload and parent of every group, outer before inner.  # [groups][4]

    Returns:
        Number of regions.
    """
    n, count = len(rows), len(groups)
    for unit in range(n):
        unit_regions[unit, INNER] = -1
    for group in range(count):
        for column in range(4):
            table[group, column] = groups[group, column]
        for unit in range(groups[group, START], groups[group, END]):
            unit_regions[unit, INNER] = group
    for unit in range(n):
        group = unit_regions[unit, INNER]
        single = group >= 0 and groups[group, END] - groups[group, START] == 1
        if rows[unit] < 0 and not single:
            table[count, START], table[count, END] = unit, unit + 1
            table[count, OFFLOAD], table[count, PARENT] = 0, group
            unit_regions[unit, INNER] = count
            count += 1
    for unit in range(n):
        region = unit_regions[unit, INNER]
        while region >= 0 and table[region, PARENT] >= 0:
            region = table[region, PARENT]
        unit_regions[unit, OUTER] = region
    return count


@kernel
def child_at(regions: RegionArrays, region: int, unit: int) -> int:
    """The direct child of a region that holds a unit; -1 for none."""
    found = regions.unit[unit, INNER]
    if found == region:
        return -1
    while regions.region[found, PARENT] != region:
        found = regions.region[found, PARENT]
    return int(found)
