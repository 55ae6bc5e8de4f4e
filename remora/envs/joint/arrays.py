"""The arrays that the kernels read and write: tables of problems, and the state of episodes.

Letters: r rows (one per problem and number of micro-batches), e episodes, n most units, x most
crossing storages, o most menu entries outside of groups, s most places of the state, a actions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.envs.joint.actions import NUM_ACTIONS

__all__ = ["CHOICE_COLUMNS", "STATE_COLUMNS", "Episodes", "Tables", "new_episodes"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Flags = NDArray[np.bool_]

CHOICE_COLUMNS = ("allowed", "headroom", "compute", "copies", "value")
STATE_COLUMNS = (
    "budget",
    "room",
    "held",
    "on_the_way",
    "rest",
    "compute",
    "store",
    "load",
    "bound",
    "progress",
    "open_units",
    "micro_batches",
    "state",
    "window",
    "distance",
    "phase_ranks",
    "phase_kind",
    "phase_micro_batches",
    "phase_state",
    "phase_pace",
    "phase_units",
    "given_budget",
    "given_room",
    "given_store_rate",
    "given_load_rate",
)
"""Columns that begin with ``given_`` describe budget and hardware: no action changes them."""


class Tables(NamedTuple):
    """What is known of problems; see the module's docstring for letters.

    Attributes:
        units: number of units.  # [r]
        size, maker, first_reader, last_reader: of crossing storages.  # [r][x]
        stays: 1 for those that the program holds into the backward.  # [r][x]
        border_start: where the border of every unit begins in the next two.  # [r][n + 2]
        border, border_next: storages on borders, and the first unit from there on that reads them.
        option_ok: whether a menu entry exists.  # [r][n][o]
        option_bytes: peaks of forward and backward, bytes held inside, bytes moved.
            # [r][n][o][4]
        option_s: compute, store and load seconds.  # [r][n][o][3]
        option_start: where the crossing storages that it holds begin in the next.  # [r][n o + 1]
        option_held: flat.
        keep_only: 1 for units that no group may hold.  # [r][n]
        saves: 1 for units with something to recompute.  # [r][n]
        forward, plain, nested: peaks of groups, see :mod:`.segments`.  # [r][n + 1][n + 1]
        made_since: bytes on the border of unit c made from unit s on, at [c, s].
            # [r][n + 1][n + 1]
        rest, near: peaks of completions.  # [r][n + 1], [r][n + 1][NEAR_UNITS + 1]
        again_s: seconds of running units before c again, see :class:`CountTables`.
            # [r][n + 1][3]
        copies: latency and bytes per second there and back.  # [r][3]
        placed: for every place of the state bytes that stay for the whole step, pinned host bytes,
            and bytes during the optimizer's step.  # [r][s][3]
        step_s: seconds of the optimizer step.  # [r][s]
        work_s: seconds of all forwards and backwards.  # [r]
        sizes: micro-batches, host memory, 1 if anything may go to the host, rows of the same
            problem from here on, places of its state.  # [r][5]
        scale: seconds and bytes that features are relative to.  # [r][2]
    """

    units: Ints
    size: Ints
    maker: Ints
    stays: Ints
    first_reader: Ints
    last_reader: Ints
    border_start: Ints
    border: Ints
    border_next: Ints
    option_ok: Ints
    option_bytes: Ints
    option_s: Floats
    option_start: Ints
    option_held: Ints
    keep_only: Ints
    saves: Ints
    forward: Ints
    plain: Ints
    nested: Ints
    made_since: Ints
    rest: Ints
    near: Ints
    again_s: Floats
    copies: Floats
    placed: Ints
    step_s: Floats
    work_s: Floats
    sizes: Ints
    scale: Floats


# Columns of ``Episodes.ints``. BASE is that of the open group, else of the unit to
# decide about; HELD_BACK is what of it is there in the backward whatever is
# decided, LASTING is the base without what is on its way to or from the host.
FIRST_ROW, ROW, PHASE, CURSOR, OPEN, BUDGET, BASE, HELD, ON_THE_WAY = range(9)
ON_HOST, PLACE, PACE, FALLBACK, HELD_BACK, LASTING, STAGE_START, NUM_INTS = range(9, 17)

# Columns of ``Episodes.reals``: seconds of each stream so far, and the bound.
COMPUTE, STORE, LOAD, BOUND, NUM_REALS = range(5)


class Episodes(NamedTuple):
    """Where every episode stands.

    Attributes:
        ints: columns FIRST_ROW and so on.
        reals: columns COMPUTE and so on.
        held: crossing storages that decided units hold.  # [e][x]
        leaving: bytes on their way that are there up to each unit.  # [e][n + way]
        decisions: by unit, -1 before.  # [e][n]
        touched: scratch.  # [x + 1]
        spare: scratch: bytes that every allowed action leaves.  # [a]
        mask: what is allowed.  # [e][a]
        choices: columns ``CHOICE_COLUMNS``.  # [e][a][columns]
        state: columns ``STATE_COLUMNS``.  # [e][columns]
        chosen: one-hot decisions.  # [e][n][a]
    """

    ints: Ints
    reals: Floats
    held: Flags
    leaving: Ints
    decisions: Ints
    touched: Ints
    spare: Ints
    mask: Flags
    choices: Singles
    state: Singles
    chosen: Singles


def new_episodes(count: int, units: int, storages: int, way: int) -> Episodes:
    """Room for so many episodes; what is on its way is there for up to ``way`` more units."""
    return Episodes(
        ints=np.zeros((count, NUM_INTS), dtype=np.int64),
        reals=np.zeros((count, NUM_REALS), dtype=np.float64),
        held=np.zeros((count, storages), dtype=np.bool_),
        leaving=np.zeros((count, units + way), dtype=np.int64),
        decisions=np.full((count, units), -1, dtype=np.int64),
        touched=np.zeros(storages + 1, dtype=np.int64),
        spare=np.zeros(NUM_ACTIONS, dtype=np.int64),
        mask=np.zeros((count, NUM_ACTIONS), dtype=np.bool_),
        choices=np.zeros((count, NUM_ACTIONS, len(CHOICE_COLUMNS)), dtype=np.float32),
        state=np.zeros((count, len(STATE_COLUMNS)), dtype=np.float32),
        chosen=np.zeros((count, units, NUM_ACTIONS), dtype=np.float32),
    )
