"""Ways to finish a stage that ends at a known unit: few per span, each a concrete plan; compiled.

A pipeline has several micro-batches in a stage, so what a way holds after its forward counts as
much as its peak. Of the ways from unit c to unit e the first is one group, the others weigh what is
held against the peak, and are found from the end by Bellman's equation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.envs.columns import NUM_WAY_COLUMNS
from remora.envs.jit import kernel
from remora.envs.segments import NEVER_FITS, Segments

__all__ = ["NUM_WAYS", "stage_completions"]

Ints = NDArray[np.int64]

_WEIGHTS = (0, 2, 8)

NUM_WAYS = 1 + len(_WEIGHTS)
"""Ways per span."""


def stage_completions(
    keep_peaks: Ints, keep_hold: Ints, segments: Segments, border_made_since: Ints
) -> Ints:
    """Find the ways of all spans.

    Args:
        keep_peaks: of forward and backward of keeping a unit, above its base.  # [n][2]
        keep_hold: by how much the base rises after that.  # [n]
        segments: peaks of groups.
        border_made_since: by how much the base rises after a group.  # [n + 1][n + 1]

    Returns:
        Peaks of forwards and backwards above the base of unit c, by how much the base rises until
        unit e, and where the first group ends, 0 if the first unit is kept, way after way.
        # [n + 1][n + 1][4 * NUM_WAYS]
    """
    n = len(keep_hold)
    ways = np.zeros((n + 1, n + 1, NUM_WAYS, NUM_WAY_COLUMNS), dtype=np.int64)
    again = np.minimum(segments.plain, segments.nested)
    kept = np.concatenate((keep_peaks, keep_hold[:, None]), axis=1).astype(np.int64)
    _fill(ways, kept, segments.forward, again, border_made_since)
    return ways.reshape(n + 1, n + 1, -1)


@kernel
def _fill(ways: Ints, kept: Ints, forward: Ints, again: Ints, made_since: Ints) -> None:
    n = len(kept)
    for end in range(1, n + 1):
        for start in range(end - 1, -1, -1):
            _set(ways, start, end, 0, forward[start, end], again[start, end], 0, end)
            ways[start, end, 0, 2] = made_since[end, start]
            for way in range(1, NUM_WAYS):
                _fill_way(ways, kept, forward, again, made_since, start, end, way)


@kernel
def _fill_way(
    ways: Ints,
    kept: Ints,
    forward: Ints,
    again: Ints,
    made_since: Ints,
    start: int,
    end: int,
    way: int,
) -> None:
    """Keep the first unit, or run a group from it on again, and go on the same way."""
    weight, best = _WEIGHTS[way - 1], np.int64(0)
    for first_end in range(start, end + 1):
        if first_end == start:
            own_forward, own_backward, hold = kept[start, 0], kept[start, 1], kept[start, 2]
            rest = ways[start + 1, end, way]
        else:
            own_forward, own_backward = forward[start, first_end], again[start, first_end]
            hold, rest = made_since[first_end, start], ways[first_end, end, way]
            if max(own_forward, own_backward) >= NEVER_FITS:
                break
        peak_forward = max(own_forward, hold + rest[0])
        peak_backward = max(own_backward, hold + rest[1])
        cost = weight * (hold + rest[2]) + max(peak_forward, peak_backward)
        if first_end == start or cost < best:
            best = cost
            chosen = 0 if first_end == start else first_end
            _set(ways, start, end, way, peak_forward, peak_backward, hold + rest[2], chosen)


@kernel
def _set(
    ways: Ints,
    start: int,
    end: int,
    way: int,
    forward: int,
    backward: int,
    held: int,
    first_end: int,
) -> None:
    ways[start, end, way, 0] = forward
    ways[start, end, way, 1] = backward
    ways[start, end, way, 2] = held
    ways[start, end, way, 3] = first_end
