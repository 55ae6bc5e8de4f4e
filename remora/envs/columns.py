"""Columns of the arrays of ``Tables`` and ``Pipelines``.

Arrays of one shape are columns of one array: every array that goes into a compiled function costs
compile time.
"""

from __future__ import annotations

# Columns of ``Tables.ints`` and ``Tables.reals``. ROWS counts those of the same problem from here
# on, PLACES the places of the state on one device; seconds of an optimizer step are those of the
# whole model on one device, for every place of the state from STATE_STEP_S on. RANGE_BYTES is the
# budget at ``range`` 0, LINK_RATE that of the slowest link between ranks, NEAR_RATE that
# inside of a node, OVER_PRICE the seconds
# for a byte that no option frees. TIED are bytes of weights that the first and the last unit share.
UNITS, MICRO_BATCHES, HOST_MEMORY, OFFLOADS, ROWS, PLACES, FIRST_SHAPE, NUM_SHAPES = range(8)
TEMPORARIES, ON_CUDA, DEVICES_PER_NODE, TIED_WEIGHTS, TIED_GRADIENTS = range(8, 13)
TIED_OPTIMIZER, TIED_EIGHT_BIT = range(13, 15)
WORK_S, LATENCY_S, STORE_RATE, LOAD_RATE, SCALE_S, SCALE_BYTES = range(6)
DEVICE_STEP_S, HOST_STEP_S, RANGE_BYTES, LINK_RATE, NEAR_RATE, OVER_PRICE, STATE_STEP_S = range(
    6, 13
)

# Columns of ``Tables.storage``.
SIZE, MAKER, STAYS, FIRST_READER, LAST_READER = range(5)

# Columns of ``Tables.option``.
EXISTS, FORWARD, BACKWARD, INSIDE, MOVED, DOUBLED, HELD_START, HELD_END = range(8)

# Columns of ``Tables.unit``.
KEEP_ONLY, SAVES = range(2)

# Columns of ``Tables.again_s``.
AGAIN_S, STOPPED_S, SAVING_S, DONE_S = range(4)

# Columns of ``Tables.span``. What stands from BATCH on is there for pipelines only; WAY_FORWARD and
# so on are repeated for every way to finish a stage.
GROUP_FORWARD, PLAIN, NESTED, MADE, NUM_GROUP_COLUMNS = range(5)
BATCH, RECEIVED, RETURNED, RETURNED_ONCE, SENT, RESTORED, HALVES = range(4, 11)
WEIGHTS, BUFFERS, GRADIENTS, OPTIMIZER, EIGHT_BIT, COPIED = range(11, 17)
LARGEST, UNIT_GRADIENTS, UNIT_WEIGHTS = range(17, 20)
RISE, RISE_AGAIN = range(20, 22)
WAY_FORWARD, WAY_BACKWARD, WAY_HELD, WAY_FIRST_END = range(22, 26)
NUM_WAY_COLUMNS = 4

# Columns of ``Pipelines.shape``. SHAPE_KIND, RANKS_PLACE, COUNT_PLACE are the actions that choose
# it; from FIRST_SLOT on stands where every place of the state is among those allowed, or -1.
SHAPE_KIND, SHAPE_ROW, STAGES, PASSES, REPLICAS, FIRST_STAGE, FIRST_LEAST, FIRST_SHARE = range(8)
SPLITS, WHOLE, ALONE, FAMILY, NUM_RANKS, STAGE_RANKS = range(8, 14)
RANKS_PLACE, COUNT_PLACE, FIRST_SLOT = range(14, 17)

# Columns of ``Pipelines.shape_s``.
FLOOR_S, KEPT_S, KEPT_BYTES, AGAIN_ALL_S, AGAIN_ALL_BYTES = range(5)

# Columns of ``Pipelines.stage``: the rank, its corners, held and restored micro-batches of each.
RANK, CORNERS, FIRST_COUNT = range(3)

# Values of the column FAMILY: what comes before the first task of a rank, and after its last.
ONE_STAGE_EACH, IN_ROUNDS, FOLDED = range(3)
