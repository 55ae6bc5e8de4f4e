"""Memory levels of all plans of a menu at once: for every moment a base and what options add.

The level of a plan at a moment is the base, plus the bytes that its options hold, plus storages
that several units may hold, each counted once if one of them does. The peak over the moments is
the one that the simulator finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.agents.exact.menus.holds import OWN, Hold, holds_of
from remora.agents.exact.menus.model import MenuChoices
from remora.agents.exact.menus.ticks import Ticks
from remora.graph.model_graph import GRADIENT
from remora.schedule.layout import Layout
from remora.schedule.lowering import resident_bytes

__all__ = ["MemoryRow", "Sharers", "memory_rows"]

IntArray = NDArray[np.int64]
Sharers = frozenset[frozenset[int]]
"""For every unit that may hold a storage the columns with which it does."""


@dataclass(frozen=True)
class MemoryRow:
    """The level at one moment.

    Attributes:
        base_bytes: what is there whatever is chosen.
        column_bytes: what each option adds.  # [num_columns]
        shared_bytes: storages that are there if one of their sharers holds them.
    """

    base_bytes: int
    column_bytes: IntArray
    shared_bytes: dict[Sharers, int]

    def level_bytes(self, columns: Collection[int]) -> int:
        """Level under a plan."""
        level = self.base_bytes + int(self.column_bytes[list(columns)].sum())
        for sharers, num_bytes in self.shared_bytes.items():
            if any(not group.isdisjoint(columns) for group in sharers):
                level += num_bytes
        return level

    def covers(self, other: MemoryRow) -> bool:
        """Whether its level is nowhere below that of another row."""
        return (
            self.base_bytes >= other.base_bytes
            and all(self.shared_bytes.get(k, 0) >= v for k, v in other.shared_bytes.items())
            and bool((self.column_bytes >= other.column_bytes).all())
        )


def memory_rows(choices: MenuChoices, window: int, distance: int) -> list[MemoryRow]:
    """Rows whose largest level is the peak of every plan.

    Args:
        choices: what there is to choose.
        window: offload window.
        distance: prefetch distance.
    """
    ticks = Ticks(choices.chain)
    holds = holds_of(choices, ticks, window, distance)
    base = _base_levels(choices, ticks)  # [num_ticks]
    lives = {h.storage: _life(choices, ticks, h.storage) for h in holds if h.storage != OWN}
    changes = {0, *(h.start for h in holds), *(h.end for h in holds)}
    changes |= {tick for life in lives.values() for tick in life}
    starts = sorted(tick for tick in changes if tick < ticks.count)
    rows = _Rows(choices.num_columns, holds, lives)
    found: list[MemoryRow] = []
    for start, end in zip(starts, [*starts[1:], ticks.count], strict=True):
        row = rows.at(start, int(base[start:end].max()))
        if found and row.covers(found[-1]):
            found[-1] = row
        elif not found or not found[-1].covers(row):
            found.append(row)
    last = _optimizer_level(choices)
    return [*found, MemoryRow(last, np.zeros(choices.num_columns, dtype=np.int64), {})]


class _Rows:
    """Makes rows from holds."""

    def __init__(
        self, num_columns: int, holds: Sequence[Hold], lives: dict[int, tuple[int, int]]
    ) -> None:
        self._num_columns = num_columns
        self._holds = holds
        # A hold counts from where the storage would be gone without it.
        starts = [max(h.start, lives[h.storage][1]) if h.storage != OWN else h.start for h in holds]
        self._start = np.array(starts, dtype=np.int64)
        self._end = np.array([h.end for h in holds], dtype=np.int64)

    def at(self, tick: int, base_bytes: int) -> MemoryRow:
        """The row of a moment."""
        column_bytes = np.zeros(self._num_columns, dtype=np.int64)
        by_storage: dict[int, list[Hold]] = {}
        for place in np.flatnonzero((self._start <= tick) & (tick < self._end)).tolist():
            hold = self._holds[place]
            if hold.storage == OWN:
                column_bytes[hold.column] += hold.num_bytes
            else:
                by_storage.setdefault(hold.storage, []).append(hold)
        shared: dict[Sharers, int] = {}
        for found in by_storage.values():
            groups = _by_unit(found)
            if len(groups) == 1:
                column_bytes[[h.column for h in found]] += found[0].num_bytes
            else:
                shared[groups] = shared.get(groups, 0) + found[0].num_bytes
        return MemoryRow(base_bytes, column_bytes, shared)


def _by_unit(holds: Iterable[Hold]) -> Sharers:
    groups: dict[int, set[int]] = {}
    for hold in holds:
        groups.setdefault(hold.unit, set()).add(hold.column)
    return frozenset(frozenset(columns) for columns in groups.values())


def _life(choices: MenuChoices, ticks: Ticks, storage: int) -> tuple[int, int]:
    """Ticks from and until which the program itself has a storage."""
    record = choices.chain.graph.storages[storage]
    start = ticks.of_op[record.created]
    return start, max(start + 1, ticks.after(record.dropped))


def _base_levels(choices: MenuChoices, ticks: Ticks) -> IntArray:
    """Levels without what options hold.  # [num_ticks]."""
    chain = choices.chain
    change = np.zeros(ticks.count + 1, dtype=np.int64)
    for storage, record in enumerate(chain.graph.storages):
        if record.created >= 0 and record.role != GRADIENT:
            start, end = _life(choices, ticks, storage)
            change[start] += chain.num_bytes(storage)
            change[min(end, ticks.count)] -= chain.num_bytes(storage)
    levels = np.cumsum(change[:-1]) + _resident_bytes(choices)
    levels[list(ticks.of_op)] += np.array(chain.costs.op_workspace_bytes, dtype=np.int64)
    gradients = _gradient_levels(choices, ticks, first=True)
    if choices.micro_batches > 1:
        gradients = np.maximum(gradients, _gradient_levels(choices, ticks, first=False))
    return np.asarray(levels + gradients, dtype=np.int64)


def _gradient_levels(choices: MenuChoices, ticks: Ticks, first: bool) -> IntArray:
    """Gradients of weights, which stay once the first micro-batch has made them.  # [num_ticks]."""
    chain = choices.chain
    change = np.zeros(ticks.count + 1, dtype=np.int64)
    kept = _kept_gradients(choices)
    for unit in chain.units:
        end = ticks.backward_end(unit.index)
        stays = first and unit.index in kept
        for storage in unit.created_backward:
            if chain.graph.storages[storage].role == GRADIENT:
                start, gone = _life(choices, ticks, storage)
                if not first:
                    gone = max(start + 1, ticks.after(chain.added_at(storage)))
                change[start] += chain.num_bytes(storage)
                change[end if stays else min(gone, end)] -= chain.num_bytes(storage)
        change[end if first else 0] += kept.get(unit.index, 0)
    return np.asarray(np.cumsum(change[:-1]), dtype=np.int64)


def _kept_gradients(choices: MenuChoices) -> dict[int, int]:
    """Bytes of gradients by the unit whose backward makes them."""
    entries = _layout(choices).gradient_units(0)
    return {unit: sum(e.gradient_bytes for e in found) for unit, found in entries.items()}


def _resident_bytes(choices: MenuChoices) -> int:
    return sum(resident_bytes(_layout(choices), 0).values())


def _optimizer_level(choices: MenuChoices) -> int:
    gradients = sum(_kept_gradients(choices).values())
    counted = choices.problem.optimizer.counted
    temporary = _layout(choices).step_costs(0).temporary_bytes if counted else 0
    return _resident_bytes(choices) + gradients + temporary


def _layout(choices: MenuChoices) -> Layout:
    keep = choices.schedule([0] * len(choices.menus), 1, 1)
    return Layout(choices.problem, keep)
