"""How long the step is likely to take after a decision, if what is left is decided well; compiled.

An estimate, not a bound: units from the cursor on take the options that are worth their memory at
one price (see :mod:`.price_levels`), stages end where the slowest is fastest. Only differences
between the actions of one state are told.
"""

from __future__ import annotations

from remora.envs.actions import PACES, Phase
from remora.envs.arrays import (
    BUDGET,
    CHOICE_COLUMNS,
    CURSOR,
    FIRST_ROW,
    PACE,
    PHASE,
    PLACE,
    ROW,
    SHAPE,
    STAGE,
    STAGE_LOAD_S,
    STAGE_S,
    STAGE_START,
    STAGE_STORE_S,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    DONE_S,
    PASSES,
    RISE,
    RISE_AGAIN,
    SCALE_S,
    STAGE_RANKS,
    STAGES,
    UNITS,
)
from remora.envs.filling import filled_s, message_s, most_held, room_of_stage
from remora.envs.jit import kernel
from remora.envs.price_levels import COPY_WEIGHT
from remora.envs.stage_ends import TRIAL_DOUBLED, TRIAL_WAY

__all__ = ["compare_outlooks", "fill_rest", "rest_of_device_s", "stage_outlook_s"]

_UNITS = int(Phase.UNITS)
_OUTLOOK = CHOICE_COLUMNS.index("outlook")
_SCALE, _MOST = 10.0, 10.0
_WINDOWS = tuple(window for window, _ in PACES)


@kernel
def rest_of_device_s(tables: Tables, episodes: Episodes, e: int, unit: int, lasting: int) -> float:
    """Seconds of a micro-batch that units from one on add on one device.

    Args:
        tables: of all problems.
        episodes: where they stand.
        e: the episode.
        unit: the first that is not decided.
        lasting: bytes that are there when it begins.
    """
    ints = episodes.ints[e]
    row = ints[ROW]
    room = ints[BUDGET] - tables.placed[row, ints[PLACE], 0] - lasting
    return filled_s(tables, row, unit, tables.ints[row, UNITS], float(room), 0.0, True)


@kernel
def fill_rest(tables: Tables, episodes: Episodes, e: int) -> None:
    """Once the pipeline is chosen: seconds of the slowest of the stages from one on, by unit."""
    ints, rest = episodes.ints[e], episodes.rest_s[e]
    if ints[SHAPE] < 0 or ints[PHASE] != _UNITS:
        return
    for other in range(len(episodes.ints)):
        if other != e and _has_same_rest(episodes, other, e):
            for stage in range(rest.shape[0]):
                for unit in range(rest.shape[1]):
                    rest[stage, unit] = episodes.rest_s[other, stage, unit]
            return
    episodes.trial[:] = 0
    units, stages = tables.ints[ints[ROW], UNITS], tables.pipelines.shape[ints[SHAPE], STAGES]
    for unit in range(units + 1):
        rest[stages, unit] = 0.0
    for stage in range(stages - 1, -1, -1):
        last = units - (stages - 1 - stage)
        for start in range(stage, last):
            low = start + 1 if stage + 1 < stages else units
            rest[stage, start] = _least_slowest(
                tables, episodes, e, stage, start, start, (low, last), 0.0, 0.0
            )


@kernel
def _has_same_rest(episodes: Episodes, one: int, other: int) -> bool:
    """Whether an episode has come so far that its rest is filled, and has the settings of it."""
    here, there = episodes.ints[one], episodes.ints[other]
    same_pipeline = here[SHAPE] == there[SHAPE] and here[ROW] == there[ROW]
    same_room = here[PLACE] == there[PLACE] and here[BUDGET] == there[BUDGET]
    return bool(here[PHASE] >= _UNITS and same_pipeline and same_room)


@kernel
def _least_slowest(
    tables: Tables,
    episodes: Episodes,
    e: int,
    stage: int,
    first: int,
    unit: int,
    ends: tuple[int, int],
    so_far_s: float,
    lasting: float,
) -> float:
    """Seconds of the slowest stage from one on, if it ends where that is least.

    A longer stage takes longer, and what is left then takes less: the best end is where they
    cross.

    Args:
        tables: of all problems.
        episodes: with the rows of later stages filled.
        e: the episode.
        stage: that ends.
        first: its first unit.
        unit: its first unit that is not decided.
        ends: first and last unit before which it may end.
        so_far_s: seconds of the units before ``unit``.
        lasting: bytes that they hold.
    """
    rest, best = episodes.rest_s[e, stage + 1], 1e300
    low, high = ends
    while low <= high:
        end = (low + high) // 2
        own = so_far_s + _stage_rest_s(tables, episodes, e, stage, first, unit, end, lasting)
        own = max(own, message_s(tables, episodes.ints[e, SHAPE], stage, first, end))
        best = min(best, max(own, rest[end]))
        if own < rest[end]:
            low = end + 1
        else:
            high = end - 1
    return best


@kernel
def _stage_rest_s(
    tables: Tables,
    episodes: Episodes,
    e: int,
    stage: int,
    first: int,
    unit: int,
    end: int,
    lasting: float,
) -> float:
    ints = episodes.ints[e]
    row, done = ints[ROW], tables.again_s[ints[ROW], :, DONE_S]
    room = room_of_stage(tables, episodes, e, stage, first, end)
    # What is on its way to the host where the stage ends waits there, as in other micro-batches.
    others = (_WINDOWS[ints[PACE]] - 1) // (end - first) + 2
    room -= others * episodes.trial[TRIAL_WAY] + episodes.trial[TRIAL_DOUBLED]
    spans = tables.span[row, first, end]
    less = (spans[RISE_AGAIN] - spans[RISE]) / most_held(tables, ints[SHAPE], stage)
    more_s = filled_s(tables, row, unit, end, room - lasting, less, False)
    return float(done[end] - done[unit] + more_s)


@kernel
def stage_outlook_s(
    tables: Tables,
    episodes: Episodes,
    e: int,
    behind: int,
    more_s: float,
    copies_s: float,
    lasting: int,
    ends: tuple[int, int],
) -> float:
    """Likely seconds of the step after a decision about the present stage.

    Args:
        tables: of all problems.
        episodes: where they stand.
        e: the episode.
        behind: first unit that the decision leaves open.
        more_s: seconds that it adds to a micro-batch, beside forward and backward.
        copies_s: seconds on the host link that it adds to a micro-batch.
        lasting: bytes of a micro-batch that are there behind it.
        ends: first and last unit before which the stage may end.
    """
    ints, columns = episodes.ints[e], tables.pipelines.shape[episodes.ints[e, SHAPE]]
    done = tables.again_s[ints[ROW], :, DONE_S]
    reals = episodes.reals[e]
    so_far_s = reals[STAGE_S] + done[behind] - done[ints[CURSOR]] + more_s
    so_far_s += COPY_WEIGHT * copies_s
    slowest = _least_slowest(
        tables,
        episodes,
        e,
        ints[STAGE],
        ints[STAGE_START],
        behind,
        ends,
        so_far_s,
        float(lasting),
    )
    slowest = max(slowest, max(reals[STAGE_STORE_S], reals[STAGE_LOAD_S]) + copies_s)
    for stage in range(ints[STAGE]):
        slowest = max(slowest, episodes.stage_s[e, stage, 0])
    return float(slowest * columns[PASSES] * columns[STAGES] / columns[STAGE_RANKS])


@kernel
def compare_outlooks(tables: Tables, episodes: Episodes, e: int) -> None:
    """Tell by how much each action's outlook exceeds the best one's."""
    choices, mask = episodes.choices[e], episodes.mask[e]
    least = 1e300
    for action in range(len(mask)):
        if mask[action]:
            least = min(least, choices[action, _OUTLOOK])
    scale = _SCALE / tables.reals[episodes.ints[e, FIRST_ROW], SCALE_S]
    for action in range(len(mask)):
        if mask[action]:
            choices[action, _OUTLOOK] = min(_MOST, scale * (choices[action, _OUTLOOK] - least))
