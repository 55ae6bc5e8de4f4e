"""The memory level while operators run, from what they make and what they let go of."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add

__all__ = ["level_at_ops"]


def level_at_ops(
    ops: Sequence[int],
    changes: Iterable[tuple[int, int]],
    workspace_bytes: Sequence[int],
) -> list[int]:
    """Sum changes of the level up, over the level before the first operator.

    Args:
        ops: operators that run, ascending.
        changes: (operator count, bytes); one counts from the first operator on that has so many
            before it. What goes after the last operator does not matter; what comes does.
        workspace_bytes: of every operator of the graph.

    Returns:
        By operator of ``ops``, workspace included.
    """
    if not ops:
        return []
    places = len(ops)
    change, late = [0] * (places + 1), 0
    # An operator at place i of a range has i operators of it before it.
    first = ops.start if isinstance(ops, range) else None
    for count, num_bytes in changes:
        place = bisect_left(ops, count) if first is None else max(0, count - first)
        if place < places:
            change[place] += num_bytes
        elif num_bytes > 0:
            late += num_bytes
    change.pop()
    if isinstance(ops, range):
        workspace = workspace_bytes[ops.start : ops.stop]
    else:
        workspace = [workspace_bytes[op] for op in ops]
    levels = list(accumulate(change))
    end = levels[-1] + late
    levels = list(map(add, levels, workspace))
    levels[-1] = max(levels[-1], end)
    return levels
