"""What units give up at a price: seconds and bytes of the options that are worth it, summed up.

Memory has a price in seconds per byte; at a given price every unit takes the option for which
seconds plus the price of what it holds are least, and the sums over units say what a span of units
takes in so much memory (Lagrangian relaxation of the choice: Everett, "Generalized Lagrange
multiplier method", Operations Research 11, 1963).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.envs.segments import NEVER_FITS, Segments
from remora.envs.storages import CrossingStorages
from remora.envs.unit_options import OptionRow
from remora.schedule.chain import Chain

__all__ = ["COPY_WEIGHT", "NUM_LEVELS", "PriceLevels", "price_levels"]

Floats = NDArray[np.float64]

NUM_LEVELS = 8
"""Prices, the first of which is 0."""

COPY_WEIGHT = 0.3
"""What a second on the host link counts against one of computing: copies hide behind work."""

_DEAREST = 0.97
"""Share of what can be freed that the last price frees; the very last bytes may cost anything."""

_OVER = 4.0
"""A byte that no option frees costs so many times what a byte costs on average."""


@dataclass(frozen=True)
class PriceLevels:
    """Sums over the units before each, by price.

    Attributes:
        sums: seconds beyond forward and backward, and bytes held, both of one micro-batch; then,
            of the units from there on, by how much their peak exceeds all that they hold in the
            end.  # [NUM_LEVELS][n + 1][3]
        rises: the peak of each unit above what is held after it: everything kept, and the most of
            all options.  # [2][n]
        over_price: seconds for a byte that no option frees.
    """

    sums: Floats
    rises: NDArray[np.int64]
    over_price: float


@dataclass(frozen=True, slots=True)
class _Point:
    """An option of a unit: seconds, bytes held after it, peak above its base."""

    seconds: float
    held: float
    peak: float

    @property
    def rise(self) -> int:
        """Peak above what is held after it."""
        return max(0, round(self.peak - self.held))


def price_levels(
    chain: Chain,
    storages: CrossingStorages,
    options: Sequence[Sequence[OptionRow]],
    segments: Segments,
) -> PriceLevels:
    """Work the sums out for one number of micro-batches.

    Args:
        chain: the units.
        storages: what crosses them.
        options: menu entries outside of groups, keep first.  # [n][options]
        segments: peaks of groups, of which those of one unit are options too.
    """
    n = len(chain.units)
    frontiers = []
    for unit in range(n):
        points = [_of_option(storages, unit, row) for row in options[unit]]
        if not chain.units[unit].fixed and segments.plain[unit, unit + 1] < NEVER_FITS:
            points.append(_recomputed(chain, storages, segments, unit))
        frontiers.append(_frontier(points))
    prices = _prices(frontiers)
    chosen = [[_at_price(frontier, price) for frontier in frontiers] for price in prices]
    kept = [_of_option(storages, unit, row[0]) for unit, row in enumerate(options)]
    highest = [max(point.rise for point in frontier) for frontier in frontiers]
    rises = np.array([[point.rise for point in kept], highest], dtype=np.int64)
    sums = np.array([_sums(row) for row in chosen])
    freed, seconds = sums[0, n, 1] - sums[-1, n, 1], sums[-1, n, 0] - sums[0, n, 0]
    return PriceLevels(sums, rises, float(_OVER * seconds / freed) if freed > 0 else 0.0)


def _of_option(storages: CrossingStorages, unit: int, row: OptionRow) -> _Point:
    copies_s = COPY_WEIGHT * max(row.store_s, row.load_s)
    held = row.inside + _new_bytes(storages, unit, row.held)
    return _Point(row.compute_s + copies_s, held, row.peak)


def _recomputed(chain: Chain, storages: CrossingStorages, segments: Segments, unit: int) -> _Point:
    """The unit recomputed as a whole: only what the next one reads is left."""
    again_s = chain.units[unit].hooks_s + chain.units[unit].rerun_s
    peak = max(segments.forward[unit, unit + 1], segments.plain[unit, unit + 1])
    return _Point(again_s, _new_bytes(storages, unit, ()), float(peak))


def _new_bytes(storages: CrossingStorages, unit: int, held: Sequence[int]) -> float:
    """Crossing storages that a unit makes and that are there when the next one begins."""
    there = {*held, *storages.border[unit + 1]}
    return float(sum(storages.size[x] for x in there if storages.maker[x] >= unit))


def _frontier(points: Sequence[_Point]) -> list[_Point]:
    """The lower convex hull of seconds over bytes, the fastest first."""
    hull: list[_Point] = []
    for point in sorted(points, key=lambda p: (p.seconds, p.held)):
        if hull and point.held >= hull[-1].held:
            continue
        while len(hull) > 1 and _price(hull[-2], hull[-1]) >= _price(hull[-2], point):
            hull.pop()
        hull.append(point)
    return hull


def _price(fast: _Point, small: _Point) -> float:
    """Seconds for a byte that the smaller one frees."""
    return (small.seconds - fast.seconds) / (fast.held - small.held)


def _prices(frontiers: Sequence[Sequence[_Point]]) -> list[float]:
    """Prices at which equal shares of all that can be freed are freed, 0 first."""
    steps = sorted(
        (_price(fast, small), fast.held - small.held)
        for frontier in frontiers
        for fast, small in itertools.pairwise(frontier)
    )
    if not steps:
        return [0.0] * NUM_LEVELS
    freed = np.cumsum([freed for _, freed in steps])
    shares = _DEAREST * freed[-1] * np.arange(1, NUM_LEVELS) / (NUM_LEVELS - 1)
    places = np.minimum(np.searchsorted(freed, shares), len(steps) - 1)
    return [0.0, *(steps[place][0] for place in places)]


def _at_price(frontier: Sequence[_Point], price: float) -> _Point:
    """The last point that is reached in steps that are no dearer."""
    found = frontier[0]
    for point in frontier[1:]:
        if _price(found, point) > price or price == 0.0:
            break
        found = point
    return found


def _sums(points: Sequence[_Point]) -> Floats:
    """The rows of one price.  # [n + 1][3]."""
    seconds = np.cumsum([0.0, *(point.seconds for point in points)])
    held = np.cumsum([0.0, *(point.held for point in points)])
    # A unit reaches its peak above what the units before it hold, which is less than all.
    beyond = [
        held[unit] + point.peak - held[-1] if unit < len(points) else 0.0
        for unit, point in enumerate(points)
    ]
    rest = np.maximum.accumulate([0.0, *beyond[::-1]])[::-1]
    return np.stack((seconds, held, np.maximum(rest, 0.0)), axis=1)
