"""What units take to fit: seconds beside their work for the room that they have; compiled."""

from __future__ import annotations

from remora.envs.arrays import (
    BASE,
    BUDGET,
    PLACE,
    ROW,
    SHAPE,
    STAGE,
    STAGE_START,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    ALONE,
    DEVICES_PER_NODE,
    FIRST_COUNT,
    FIRST_STAGE,
    LINK_RATE,
    NEAR_RATE,
    OVER_PRICE,
    PLAIN,
    RANK,
    RECEIVED,
    RISE,
    SHAPE_ROW,
    STAGE_RANKS,
    STAGES,
)
from remora.envs.jit import kernel
from remora.envs.seconds import group_s
from remora.envs.stage_bytes import device_bytes
from remora.envs.stage_orders import NUM_CORNERS

__all__ = ["filled_s", "is_plain", "message_s", "most_held", "room_of_stage"]


@kernel
def filled_s(
    tables: Tables, row: int, start: int, end: int, room: float, less: float, whole: bool
) -> float:
    """Seconds that units ``start`` to ``end - 1`` take beyond their work to hold so few bytes.

    Args:
        tables: of all problems.
        row: of the problem.
        start: the first unit.
        end: the first that is not meant.
        room: bytes for one micro-batch.
        less: how much of that is not there unless everything is kept.
        whole: whether the peak of all units from ``start`` on has to fit, too.
    """
    prices = tables.price[row]
    before_s = before = 0.0
    for level in range(len(prices)):
        held = prices[level, end, 1] - prices[level, start, 1]
        if whole:
            held += prices[level, start, 2]
        seconds = prices[level, end, 0] - prices[level, start, 0]
        if level == 1:
            room -= less
        if held <= room:
            if level == 0 or before <= held:
                return float(seconds)
            return float(before_s + (before - room) / (before - held) * (seconds - before_s))
        if level == 0 or held < before:
            before, before_s = held, seconds
    # In one group the units hold nothing between them.
    grouped_s = max(before_s, group_s(tables, row, start, end, True)) if start < end else before_s
    own = prices[len(prices) - 1, start, 2] if whole else 0.0
    if room >= own:
        part = (before - room) / (before - own) if before > own else 1.0
        return float(before_s + part * (grouped_s - before_s))
    return float(grouped_s + (own - room) * tables.reals[row, OVER_PRICE])


@kernel
def most_held(tables: Tables, shape: int, stage: int) -> int:
    """Most micro-batches that are in a stage at once."""
    number = tables.pipelines.stage[tables.pipelines.shape[shape, FIRST_STAGE] + stage]
    most = 1
    for corner in range(NUM_CORNERS):
        at = FIRST_COUNT + 2 * corner
        most = max(most, number[at] + number[at + 1])
    return int(most)


@kernel
def _share_of_stage(tables: Tables, episodes: Episodes, e: int, stage: int) -> float:
    """An even part of the memory of a stage's rank; of what closed stages left, if it is open."""
    ints, pipes = episodes.ints[e], tables.pipelines
    columns = pipes.shape[ints[SHAPE]]
    if columns[ALONE] or stage != ints[STAGE]:
        return float(ints[BUDGET] * columns[STAGE_RANKS] / columns[STAGES])
    rank, left = pipes.stage[columns[FIRST_STAGE] + stage, RANK], 0
    for later in range(stage, columns[STAGES]):
        left += pipes.stage[columns[FIRST_STAGE] + later, RANK] == rank
    taken = 0
    for corner in range(NUM_CORNERS):
        taken = max(taken, episodes.rank_bytes[e, rank, corner])
    return float((ints[BUDGET] - taken) / left)


@kernel
def room_of_stage(
    tables: Tables, episodes: Episodes, e: int, stage: int, start: int, end: int
) -> float:
    """Bytes for what one micro-batch holds in a stage of some units, if everything is kept."""
    shape, state = episodes.ints[e, SHAPE], episodes.ints[e, PLACE]
    taken = device_bytes(tables, shape, state, stage, start, end)
    rise = tables.span[tables.pipelines.shape[shape, SHAPE_ROW], start, end, RISE]
    room = _share_of_stage(tables, episodes, e, stage) - taken - rise
    return float(room / most_held(tables, shape, stage))


@kernel
def is_plain(tables: Tables, episodes: Episodes, e: int, start: int, end: int) -> bool:
    """Whether a group is likely to fit without recomputing its units one by one."""
    ints = episodes.ints[e]
    row = ints[ROW]
    peak = float(ints[BASE] + tables.span[row, start, end, PLAIN])
    if ints[SHAPE] < 0:
        return bool(peak <= ints[BUDGET] - tables.placed[row, ints[PLACE], 0])
    stage, first = ints[STAGE], ints[STAGE_START]
    taken = device_bytes(tables, ints[SHAPE], ints[PLACE], stage, first, end)
    return bool(peak <= _share_of_stage(tables, episodes, e, stage) - taken)


@kernel
def message_s(tables: Tables, shape: int, stage: int, first: int, end: int) -> float:
    """Seconds in which a stage receives one micro-batch."""
    columns, pipes = tables.pipelines.shape[shape], tables.pipelines
    if stage == 0:
        return 0.0
    row, per_node = columns[SHAPE_ROW], tables.ints[columns[SHAPE_ROW], DEVICES_PER_NODE]
    sender = pipes.stage[columns[FIRST_STAGE] + stage - 1, RANK]
    receiver = pipes.stage[columns[FIRST_STAGE] + stage, RANK]
    near = sender // per_node == receiver // per_node
    rate = tables.reals[row, NEAR_RATE if near else LINK_RATE]
    return float(tables.span[row, first, end, RECEIVED] / rate)
