"""The arrays that the kernels read and write: tables of problems, and the state of episodes.

Letters: r rows (one per problem and number of micro-batches), e episodes, n most units, x most
crossing storages, o most menu entries outside of groups, s most places of the state, a actions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import KINDS, NUM_ACTIONS
from remora.envs.stage_orders import NUM_CORNERS

__all__ = ["CHOICE_COLUMNS", "STATE_COLUMNS", "Episodes", "Tables", "new_episodes"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Flags = NDArray[np.bool_]

CHOICE_COLUMNS = ("allowed", "headroom", "compute", "copies", "value", "outlook")
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
    "ranks",
    "stage",
    "stages_left",
    "in_flight",
    "stage_share",
    *(f"kind_{place}" for place in range(len(KINDS))),
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
    "given_world",
    "given_link_rate",
)
"""Columns that begin with ``given_`` describe budget and hardware: no action changes them."""


class Pipelines(NamedTuple):
    """What is known of the pipelines of problems of several ranks.

    A shape is a kind on some ranks with some micro-batches; columns are named in :mod:`.columns`.

    Attributes:
        shape: those of one problem stand together.  # [shapes][columns]
        shape_s: seconds that no plan goes below; with balanced cuts, seconds and bytes of keeping
            everything, and of recomputing every unit.
            # [shapes][2]
        stage: rank of every stage of one shape after the other, and micro-batches in memory, see
            :class:`.StageOrder`.  # [all stages][2 + 2 corners]
        shares: what part of the budget a stage may take of every use of its rank; by shape, slot
            and stage.  # [..][NUM_USES]
        least: smallest budget with which the stages from s on hold the units from a on; by shape,
            slot, s and a.
    """

    shape: Ints
    shape_s: Floats
    stage: Ints
    shares: Floats
    least: Ints


class Tables(NamedTuple):
    """What is known of problems; see the module's docstring for letters, :mod:`.columns` for names.

    Attributes:
        ints, reals: sizes, seconds and rates.  # [r][columns]
        storage: crossing storages: bytes, unit that makes it, 1 if the program holds it into the
            backward, first and last unit that reads it.  # [r][x][columns]
        border_start: where the border of every unit begins in the next.  # [r][n + 2]
        border: storages on borders, and the first unit from there on that reads them.
            # [r][..][2]
        option: menu entries: 1 if there is one, peaks of forward and backward, bytes held inside,
            bytes moved, those of them that somebody else may hold too, and where the crossing
            storages that it holds begin and end in the next but one.  # [r][n][o][columns]
        option_s: compute, store and load seconds.  # [r][n][o][3]
        option_held: flat.
        unit: 1 for units that no group may hold, 1 for those with something to recompute.
            # [r][n][2]
        span: of units a to e - 1: peaks of groups, see :mod:`.segments`, and bytes on the border
            of e that they made; for pipelines :func:`.stage_spans`, :func:`.static_spans` and
            :func:`.stage_completions`.  # [r][n + 1][n + 1][columns]
        near: peaks of completions; the first is that of all units left.
            # [r][n + 1][NEAR_UNITS + 1]
        again_s: seconds of running units before c again, see :class:`CountTables`, and of their
            forwards and backwards.  # [r][n + 1][4]
        price: see :class:`.PriceLevels`.  # [r][levels][n + 1][3]
        placed: for every place of the state, on one device, bytes that stay for the whole step,
            pinned host bytes, bytes during the optimizer's step, and 1 if it is allowed.
            # [r][s][4]
        pipelines: of problems of several ranks.
    """

    ints: Ints
    reals: Floats
    storage: Ints
    border_start: Ints
    border: Ints
    option: Ints
    option_s: Floats
    option_held: Ints
    unit: Ints
    span: Ints
    near: Ints
    again_s: Floats
    price: Floats
    placed: Ints
    pipelines: Pipelines


# Columns of ``Episodes.ints``. BASE is that of the open group, else of the unit to
# decide about; HELD_BACK is what of it is there in the backward whatever is
# decided, LASTING is the base without what is on its way to or from the host.
FIRST_ROW, ROW, PHASE, CURSOR, OPEN, BUDGET, BASE, HELD, ON_THE_WAY = range(9)
ON_HOST, PLACE, PACE, FALLBACK, HELD_BACK, LASTING, STAGE_START = range(9, 16)

# Of pipelines: SHAPE is -1 on one device, RANKS and KIND are what was chosen. Peaks and bytes are
# those of one micro-batch in the present stage; FIRST_END is 0 before the end of the first stage is
# known.
SHAPE, RANKS, KIND, STAGE, FORWARD_PEAK, BACKWARD_PEAK, STAGE_DOUBLED = range(16, 23)
FIRST_END, NUM_INTS = range(23, 25)

RANK_HOST = 2 * NUM_CORNERS + 1
"""Column of ``Episodes.rank_bytes`` behind those that :func:`.fill_uses` fills."""

# Columns of ``Episodes.reals``: seconds of each stream so far, and the bound; of pipelines those of
# one micro-batch, and of the present stage.
COMPUTE, STORE, LOAD, BOUND, STAGE_S, STAGE_STORE_S, STAGE_LOAD_S, NUM_REALS = range(8)


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
        ends, taken, promised, uses, trial: scratch of stages, see :mod:`.stage_ends`.
        rank_bytes: what closed stages of a rank take, see :func:`.fill_uses`, and their pinned
            bytes.  # [e][ranks][columns]
        stage_s: seconds of one micro-batch in closed stages: all, stores, loads.  # [e][S][3]
        rest_s: likely seconds of the slowest stage from one on, see :func:`.fill_rest`.
            # [e][S + 1][n + 1]
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
    ends: Ints
    taken: Ints
    promised: Floats
    uses: Ints
    trial: Ints
    rank_bytes: Ints
    stage_s: Floats
    rest_s: Floats
    mask: Flags
    choices: Singles
    state: Singles
    chosen: Singles


def new_episodes(count: int, units: int, storages: int, way: int, stages: int) -> Episodes:
    """Room for episodes that have not begun.

    Args:
        count: of episodes.
        units: most of a problem.
        storages: most crossing storages.
        way: units for which what is on its way is there at most.
        stages: most of a pipeline.
    """
    return Episodes(
        ints=np.zeros((count, NUM_INTS), dtype=np.int64),
        reals=np.zeros((count, NUM_REALS), dtype=np.float64),
        held=np.zeros((count, storages), dtype=np.bool_),
        leaving=np.zeros((count, units + way), dtype=np.int64),
        decisions=np.full((count, units), -1, dtype=np.int64),
        touched=np.zeros(storages + 1, dtype=np.int64),
        spare=np.zeros(NUM_ACTIONS, dtype=np.int64),
        ends=np.zeros((units + 1, 5), dtype=np.int64),
        taken=np.zeros(RANK_HOST + 2, dtype=np.int64),
        promised=np.zeros(RANK_HOST + 1, dtype=np.float64),
        uses=np.zeros(RANK_HOST, dtype=np.int64),
        trial=np.zeros(3, dtype=np.int64),
        rank_bytes=np.zeros((count, stages, RANK_HOST + 1), dtype=np.int64),
        stage_s=np.zeros((count, stages, 3), dtype=np.float64),
        rest_s=np.zeros((count, stages + 1, units + 1), dtype=np.float64),
        mask=np.zeros((count, NUM_ACTIONS), dtype=np.bool_),
        choices=np.zeros((count, NUM_ACTIONS, len(CHOICE_COLUMNS)), dtype=np.float32),
        state=np.zeros((count, len(STATE_COLUMNS)), dtype=np.float32),
        chosen=np.zeros((count, units, NUM_ACTIONS), dtype=np.float32),
    )
