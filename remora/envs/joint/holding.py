"""Which crossing storages decided units hold, and what that makes of the base; compiled.

Trials are undone: what a trial holds is noted in ``Episodes.touched``, the count first.
"""

from __future__ import annotations

from remora.envs.joint.actions import PACES
from remora.envs.joint.arrays import (
    CURSOR,
    HELD,
    ON_THE_WAY,
    OPEN,
    PACE,
    ROW,
    Episodes,
    Tables,
)
from remora.envs.joint.jit import kernel

__all__ = [
    "base_after",
    "begin_trial",
    "border_bytes",
    "group_start",
    "hold_inputs",
    "hold_option",
    "offloaded_inputs",
    "there_until",
    "undo_trial",
]

_WINDOWS = tuple(window for window, _ in PACES)
_DISTANCES = tuple(distance for _, distance in PACES)


@kernel
def begin_trial(episodes: Episodes) -> None:
    """Forget what earlier trials touched."""
    episodes.touched[0] = 0


@kernel
def undo_trial(episodes: Episodes, e: int) -> None:
    """Let go of everything that the trial holds."""
    for place in range(1, episodes.touched[0] + 1):
        episodes.held[e, episodes.touched[place]] = False
    episodes.touched[0] = 0


@kernel
def _hold(tables: Tables, episodes: Episodes, e: int, row: int, storage: int) -> int:
    """Hold a storage; returns its bytes if nobody did before."""
    if episodes.held[e, storage]:
        return 0
    episodes.held[e, storage] = True
    episodes.touched[0] += 1
    episodes.touched[episodes.touched[0]] = storage
    return int(tables.size[row, storage])


@kernel
def hold_option(tables: Tables, episodes: Episodes, e: int, option: int) -> int:
    """Hold what a menu entry of the cursor's unit does; returns the bytes that are new."""
    row, unit = episodes.ints[e, ROW], episodes.ints[e, CURSOR]
    entry = unit * tables.option_ok.shape[2] + option
    added = 0
    for place in range(tables.option_start[row, entry], tables.option_start[row, entry + 1]):
        added += _hold(tables, episodes, e, row, tables.option_held[row, place])
    return int(added + tables.option_bytes[row, unit, option, 1])


@kernel
def hold_inputs(
    tables: Tables, episodes: Episodes, e: int, start: int, end: int, offloaded: bool
) -> int:
    """Hold what a group reads from before it, without what waits on the host for it alone."""
    row = episodes.ints[e, ROW]
    added = 0
    for place in range(tables.border_start[row, start], tables.border_start[row, start + 1]):
        if tables.border_next[row, place] >= end:
            continue
        storage = tables.border[row, place]
        if not (offloaded and _private(tables, row, storage, start, end)):
            added += _hold(tables, episodes, e, row, storage)
    return added


@kernel
def offloaded_inputs(
    tables: Tables, episodes: Episodes, e: int, start: int, end: int, held_only: bool
) -> int:
    """Bytes that a group alone reads from before it; on demand of those that others hold too."""
    row = episodes.ints[e, ROW]
    total = 0
    for place in range(tables.border_start[row, start], tables.border_start[row, start + 1]):
        storage = tables.border[row, place]
        wanted = episodes.held[e, storage] or not held_only
        if wanted and _private(tables, row, storage, start, end):
            total += tables.size[row, storage]
    return int(total)


@kernel
def _private(tables: Tables, row: int, storage: int, start: int, end: int) -> bool:
    return bool(
        tables.first_reader[row, storage] >= start and tables.last_reader[row, storage] < end
    )


@kernel
def border_bytes(tables: Tables, episodes: Episodes, e: int, unit: int) -> int:
    """Bytes on the border of a unit that no decided unit holds."""
    row = episodes.ints[e, ROW]
    total = 0
    for place in range(tables.border_start[row, unit], tables.border_start[row, unit + 1]):
        storage = tables.border[row, place]
        if not episodes.held[e, storage]:
            total += tables.size[row, storage]
    return int(total)


@kernel
def base_after(tables: Tables, episodes: Episodes, e: int, added: int, moved: int) -> int:
    """The base of the unit after the cursor's.

    Args:
        tables: of all problems.
        episodes: with what the decision holds already held.
        e: the episode.
        added: bytes that the decision holds and nobody held before.
        moved: bytes that it sends to the host.
    """
    ints = episodes.ints[e]
    left = ints[ON_THE_WAY] - episodes.leaving[e, ints[CURSOR]]
    border = border_bytes(tables, episodes, e, ints[CURSOR] + 1)
    return int(ints[HELD] + added + left + moved + border)


@kernel
def group_start(episodes: Episodes, e: int) -> int:
    """First unit of the open group, else the cursor's unit."""
    start = episodes.ints[e, OPEN]
    return int(episodes.ints[e, CURSOR] if start < 0 else start)


@kernel
def there_until(episodes: Episodes, e: int, start: int, end: int) -> int:
    """Last unit during whose runs a copy of units ``start`` to ``end - 1`` is on its way."""
    pace = episodes.ints[e, PACE]
    return int(max(start + _WINDOWS[pace] - 1, end - 1 + _DISTANCES[pace]))
