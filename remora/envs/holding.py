"""Which crossing storages decided units hold, and what that makes of the base; compiled.

Trials are undone: what a trial holds is noted in ``Episodes.touched``, the count first.
"""

from __future__ import annotations

from remora.envs.actions import PACES
from remora.envs.arrays import (
    CURSOR,
    HELD,
    OPEN,
    PACE,
    ROW,
    STAGE_START,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    FIRST_READER,
    HELD_END,
    HELD_START,
    INSIDE,
    LAST_READER,
    MAKER,
    SIZE,
    STAYS,
)
from remora.envs.jit import kernel

__all__ = [
    "begin_trial",
    "border_bytes",
    "completed_peak",
    "group_start",
    "hold_inputs",
    "hold_option",
    "lasting_after",
    "offloaded_inputs",
    "there_until",
    "touched_before",
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
    """Hold a storage; returns its bytes if nobody did before, not even a receive buffer."""
    in_buffer = tables.storage[row, storage, MAKER] < episodes.ints[e, STAGE_START]
    if in_buffer or episodes.held[e, storage]:
        return 0
    episodes.held[e, storage] = True
    episodes.touched[0] += 1
    episodes.touched[episodes.touched[0]] = storage
    return int(tables.storage[row, storage, SIZE])


@kernel
def hold_option(tables: Tables, episodes: Episodes, e: int, option: int) -> int:
    """Hold what a menu entry of the cursor's unit does; returns the bytes that are new."""
    row, unit = episodes.ints[e, ROW], episodes.ints[e, CURSOR]
    entry = tables.option[row, unit, option]
    added = 0
    for place in range(entry[HELD_START], entry[HELD_END]):
        added += _hold(tables, episodes, e, row, tables.option_held[row, place])
    return int(added + entry[INSIDE])


@kernel
def touched_before(tables: Tables, episodes: Episodes, e: int) -> int:
    """Bytes of what the trial holds that units before the cursor's made."""
    row, unit = episodes.ints[e, ROW], episodes.ints[e, CURSOR]
    total = 0
    for place in range(1, episodes.touched[0] + 1):
        storage = episodes.touched[place]
        if tables.storage[row, storage, MAKER] < unit:
            total += tables.storage[row, storage, SIZE]
    return int(total)


@kernel
def hold_inputs(
    tables: Tables, episodes: Episodes, e: int, start: int, end: int, offloaded: bool
) -> int:
    """Hold what a group reads from before it, without what waits on the host for it alone."""
    row = episodes.ints[e, ROW]
    added = 0
    for place in range(tables.border_start[row, start], tables.border_start[row, start + 1]):
        if tables.border[row, place, 1] >= end:
            continue
        storage = tables.border[row, place, 0]
        if not (offloaded and _private(tables, row, storage, start, end)):
            added += _hold(tables, episodes, e, row, storage)
    return added


@kernel
def offloaded_inputs(tables: Tables, episodes: Episodes, e: int, start: int, end: int) -> int:
    """Bytes that a group alone reads from before it."""
    row = episodes.ints[e, ROW]
    total = 0
    for place in range(tables.border_start[row, start], tables.border_start[row, start + 1]):
        storage = tables.border[row, place, 0]
        if _private(tables, row, storage, start, end):
            total += tables.storage[row, storage, SIZE]
    return int(total)


@kernel
def _private(tables: Tables, row: int, storage: int, start: int, end: int) -> bool:
    return bool(
        tables.storage[row, storage, FIRST_READER] >= start
        and tables.storage[row, storage, LAST_READER] < end
    )


@kernel
def border_bytes(tables: Tables, episodes: Episodes, e: int, unit: int, staying: bool) -> int:
    """Bytes on the border of a unit that no decided unit holds; all, or what stays for good.

    What earlier stages of a pipeline made lies in receive buffers, which are counted apart.
    """
    row = episodes.ints[e, ROW]
    total = 0
    for place in range(tables.border_start[row, unit], tables.border_start[row, unit + 1]):
        storage = tables.border[row, place, 0]
        wanted = not staying or tables.storage[row, storage, STAYS] != 0
        wanted = wanted and tables.storage[row, storage, MAKER] >= episodes.ints[e, STAGE_START]
        if wanted and not episodes.held[e, storage]:
            total += tables.storage[row, storage, SIZE]
    return int(total)


@kernel
def lasting_after(tables: Tables, episodes: Episodes, e: int, added: int) -> int:
    """What lasts of the base of the unit after the cursor's.

    Args:
        tables: of all problems.
        episodes: with what the decision holds already held.
        e: the episode.
        added: bytes that the decision holds and nobody held before.
    """
    ints = episodes.ints[e]
    border = border_bytes(tables, episodes, e, ints[CURSOR] + 1, False)
    return int(ints[HELD] + added + border)


@kernel
def completed_peak(
    tables: Tables, episodes: Episodes, e: int, unit: int, lasting: int, moved: int, until: int
) -> int:
    """Peak of the completion from a unit on.

    Args:
        tables: of all problems.
        episodes: with what is on its way.
        e: the episode.
        unit: the first that is not decided.
        lasting: the base without what is on its way.
        moved: bytes that the present decision sends to the host.
        until: the last unit for which they are there.
    """
    row = episodes.ints[e, ROW]
    peak = lasting + tables.near[row, unit, 0]
    on_the_way = 0
    for left in range(tables.near.shape[2] - 1, 0, -1):
        last = unit + left - 1
        on_the_way += episodes.leaving[e, last]
        if moved and last == until:
            on_the_way += moved
        if on_the_way:
            peak = max(peak, lasting + on_the_way + tables.near[row, unit, left])
    return int(peak)


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
