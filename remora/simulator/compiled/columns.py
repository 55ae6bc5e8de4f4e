"""Names of the columns and rows of the compiled engine's tables.

The kernels get few, wide tables instead of many arrays: every array that goes into a compiled
function costs compile time.
"""

from __future__ import annotations

# Rows of ``ChainArrays.table``: crossing storages by unit. SAVED is first, so that places in it
# also number the crossing saved storages.
SAVED, INPUTS, MADE, DROPPED = 0, 1, 2, 3
DEATHS, MADE_BACKWARD, DROPPED_BACKWARD, CARRIED = 4, 5, 6, 7
# Levels between the points at which crossing storages are let go of, by unit.
REGION_LEVELS, RERUN_LEVELS, STOP_LEVELS = 8, 9, 10
FIRST_LEVELS, LATER_LEVELS, INPUT_LEVELS, OWN_LEVELS = 11, 12, 13, 14
# What the halves of a backward make and let go of.
MADE_INPUTS, MADE_WEIGHTS, SUMMED = 15, 16, 17
# Levels of a forward that keeps nothing and runs again.
CHILD_LEVELS = 18

# Columns of ``ChainArrays.cross``.
SIZE, MAKER, HELD, IN_STOP, FIRST_READER, LAST_READER = 0, 1, 2, 3, 4, 5
DIFFERENTIABLE, ADDED_BY, HANDED_BYTES, HANDED_TO = 6, 7, 8, 9

# Columns of ``ChainArrays.unit`` and ``ChainArrays.seconds``.
SAVED_BYTES, CARRIED_BYTES, WEIGHT_FIRST, WEIGHT_LATER, WEIGHT_OWN, HAS_INPUTS = 0, 1, 2, 3, 4, 5
FORWARD_S, RERUN_S, STOP_S, BACKWARD_S, INPUT_S, WEIGHT_S = 0, 1, 2, 3, 4, 5

# Columns of ``RowArrays.ints``.
KEPT_BYTES, OFFLOADED_BYTES, MOVED, NUM_MOVED, COMPRESSED_BYTES = 0, 1, 2, 3, 4
RESTORED_INSIDE, RESTORED, RERUNS, RERUN_PEAK, RERUN_INSIDE = 5, 6, 7, 8, 9
SEGMENT_START, ACTION_START, READ_START, READ_END = 10, 11, 12, 13
NUM_ROW_COLUMNS = 14

# Columns of ``Live.instance`` and ``Live.cross``.
HOLDERS, BYTES, PROGRAM, GENERATION = 0, 1, 2, 3
CURRENT, LATEST = 0, 1

# Columns of ``RegionArrays.region`` and ``RegionArrays.unit``.
START, END, OFFLOAD, PARENT = 0, 1, 2, 3
INNER, OUTER = 0, 1

# Columns of ``Items.ints``: the change before, the peak, the change after, and the peak of a
# backward whose gradients are added to others.
CODE, UNIT, UPCOMING, SLOT, HOST = 0, 1, 2, 3, 4
BEFORE, PEAK, AFTER, LATER_PEAK = 5, 6, 7, 8
NUM_ITEM_COLUMNS = 9
