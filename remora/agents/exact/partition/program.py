"""Where to cut a chain of units into stages, with the options of every stage: two levels.

Inner level: for every range of units ``[a, b)`` as stage g the least seconds of its forward,
backward and recomputation, one micro-batch, within the memory of that stage: a knapsack over
memory slots, in which all ranges that begin at the same unit share their work. Outer level: over
(stage, unit), which range each stage gets.

A pipeline is slow for two reasons: the time that one micro-batch takes through all stages, which
is what it takes to fill and to drain it, and the time of the slowest stage, which is what each
further micro-batch takes. The program returns all trade-offs between the two. It is exact, up to
memory slots, for this class and objective:

- every stage is a range of units in the order of the chain, and every unit takes one option of its
  menu, by itself (no groups);
- stage g with ``[a, b)`` needs ``state + passes * pass + max(n * held + work, step)`` bytes of the
  tables of :mod:`~remora.agents.exact.partition.ranges`, n being its micro-batches in flight, and
  that is within the limit given for stage g;
- the objective is any function that grows with both path and slowest stage; ``estimate_s`` is the
  one used: ``fill * path + (micro_batches - fill) * stages_per_rank * slowest``.

For gpipe and 1f1b (fill = 1) that is one pass through all stages and the steady part of m - 1
times the slowest, AdaPipe's warm-up, steady and ending parts without the waiting of uneven stages
in the first and the last of them. For kinds with several stages per rank a rank counts as if all
of its stages were as slow as the slowest one, and each of them has its own share of the memory;
:mod:`~remora.agents.exact.partition.shape` moves both until they say the truth about the result,
which is a local optimum there.

Sources: Sun et al., "AdaPipe: Optimizing Pipeline Parallelism with Adaptive Recomputation and
Partitioning" (ASPLOS 2024); Beaumont, Eyraud-Dubois, Shilova, "MadPipe: Memory Aware Dynamic
Programming Algorithm for Pipelined Model Parallelism" (2022). The front is found by lowering the
limit of the slowest stage step by step (Haimes, Lasdon, Wismer 1971).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.agents.exact.partition.loads import StageLoads
from remora.agents.exact.partition.ranges import RangeTables
from remora.agents.exact.partition.stage_menu import StageMenu

__all__ = [
    "Partition",
    "fixed_bytes",
    "leanest_seconds",
    "least_stage_bytes",
    "partition_front",
    "stage_seconds",
    "to_slots",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Partition:
    """One trade-off; in seconds of one micro-batch, unless it is bytes that are traded.

    Attributes:
        cuts: first unit of every stage but the first.  # [num_stages - 1]
        path: sum over all stages, messages included.
        slowest: largest of the stages, without messages.
    """

    cuts: tuple[int, ...]
    path: float
    slowest: float

    def estimate_s(self, micro_batches: int, fill: float, stages_per_rank: int) -> float:
        """Seconds of all micro-batches; ``fill`` is the share of the path that fills it."""
        steady_s = (micro_batches - fill) * stages_per_rank * self.slowest
        return fill * self.path + steady_s


def stage_seconds(
    tables: RangeTables,
    menu: StageMenu,
    loads: StageLoads,
    limits_bytes: Sequence[float],
    num_slots: int,
) -> Floats:
    """Inner level: seconds of every range as every stage, infinite where it does not fit.

    Args:
        tables: of the chain at the number of micro-batches in question.
        menu: options at the same.
        loads: of the stages.
        limits_bytes: memory of every stage.  # [num_stages]
        num_slots: memory slots to which what a unit holds is rounded up.

    Returns:
        ``[stage, a, b]``.  # [num_stages, L + 1, L + 1]
    """
    # Imported here because numba is slow to load and not every search comes to this point.
    from remora.agents.exact.partition.kernel import fill_stage

    size = tables.num_units
    found = np.full((loads.num_stages, size + 1, size + 1), np.inf)
    for stage, limit in enumerate(limits_bytes):
        slot = max(limit, 1.0) / num_slots
        fixed = fixed_bytes(tables, loads.passes[stage])
        left = np.floor((limit - fixed - tables.work_bytes) / slot)
        left[fixed + tables.step_bytes > limit] = -1
        left[~_possible(size, stage, loads.num_stages)] = -1
        slots = np.clip(left, -1, num_slots).astype(np.int64)
        weights = to_slots(loads.in_flight[stage] * menu.held_bytes, slot, num_slots)
        fill_stage(weights, menu.extra_s, slots, num_slots, found[stage])
    return found + tables.seconds


def least_stage_bytes(tables: RangeTables, menu: StageMenu, loads: StageLoads) -> Floats:
    """Bytes of every range as every stage with its leanest options; infinite if it cannot be one.

    Returns:
        ``[stage, a, b]``.  # [num_stages, L + 1, L + 1]
    """
    size = tables.num_units
    done = np.concatenate([[0.0], np.cumsum(menu.least_bytes)])
    held = done[None, :] - done[:, None]
    found = np.empty((loads.num_stages, size + 1, size + 1))
    for stage, count in enumerate(loads.in_flight):
        held_now = np.maximum(count * held + tables.work_bytes, tables.step_bytes)
        found[stage] = fixed_bytes(tables, loads.passes[stage]) + held_now
        found[stage][~_possible(size, stage, loads.num_stages)] = np.inf
    return found


def leanest_seconds(tables: RangeTables, menu: StageMenu) -> Floats:
    """Seconds of every range with its leanest options.  # [L + 1, L + 1]."""
    rows = np.arange(tables.num_units)
    extra = menu.extra_s[rows, menu.held_bytes.argmin(axis=1)]
    done = np.concatenate([[0.0], np.cumsum(extra)])
    seconds: Floats = tables.seconds + np.triu(done[None, :] - done[:, None])
    return seconds


def fixed_bytes(tables: RangeTables, passes: int) -> Floats:
    """What a range takes for the whole step on a rank that ``passes`` micro-batches pass."""
    return tables.state_bytes + passes * tables.pass_bytes


def partition_front(stage: Floats, message: Floats | None = None) -> list[Partition]:
    """Outer level: all trade-offs between the sum over the stages and the largest of them.

    Args:
        stage: what every range takes as every stage.  # [num_stages, L + 1, L + 1]
        message: added to the sum only.  # [num_stages, L + 1, L + 1]

    Returns:
        Least sum first, then less and less of the largest; empty where nothing fits.
    """
    from remora.agents.exact.partition.kernel import best_cuts

    num_stages, size = stage.shape[0], stage.shape[1]
    best = np.empty((num_stages, size))
    cut = np.empty((num_stages, size), dtype=np.int64)
    if message is None:
        message = np.zeros_like(stage)
    front: list[Partition] = []
    limit = math.inf
    while True:
        best_cuts(stage, message, limit, best, cut)
        if not math.isfinite(best[-1, -1]):
            return front
        borders = _borders(cut)
        limit = max(stage[g, borders[g], borders[g + 1]] for g in range(num_stages))
        found = Partition(tuple(borders[1:-1]), float(best[-1, -1]), float(limit))
        if front and found.path <= front[-1].path:
            front.pop()
        front.append(found)


def to_slots(num_bytes: Floats, slot_bytes: float, num_slots: int) -> Ints:
    """Slots that hold so many bytes; one more than there are where they do not hold them."""
    slots = np.ceil(num_bytes / slot_bytes)
    return np.clip(slots, 0, num_slots + 1).astype(np.int64)


def _possible(size: int, stage: int, num_stages: int) -> NDArray[np.bool_]:
    """Ranges that leave a unit to every other stage.  # [L + 1, L + 1]."""
    start, end = np.arange(size + 1)[:, None], np.arange(size + 1)[None, :]
    first = start == 0 if stage == 0 else start >= stage
    last_stage = stage == num_stages - 1
    last = end == size if last_stage else end <= size - (num_stages - 1 - stage)
    return first & last & (start < end)


def _borders(cut: Ints) -> list[int]:
    """First unit of every stage, and the number of units."""
    borders = [cut.shape[1] - 1]
    for stage in range(len(cut) - 1, -1, -1):
        borders.append(int(cut[stage, borders[-1]]))
    return borders[::-1]
