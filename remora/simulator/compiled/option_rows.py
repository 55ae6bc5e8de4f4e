"""What every option of every unit does, as rows of arrays that grow as options are met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from remora.schedule.chain import Chain
from remora.schedule.host_copies import HostLinkRates
from remora.schedule.recompute import is_recompute
from remora.schedule.schedule import UnitOption
from remora.schedule.stage import UnitPlan, unit_plan
from remora.simulator.compiled.chain_arrays import crossing_index, drop_events, segments
from remora.simulator.compiled.columns import NUM_ROW_COLUMNS

__all__ = ["WHOLE", "OptionRows", "RowArrays"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WHOLE = -1
"""Stands for an option that recomputes the whole unit."""

KEPT, OFFLOADED, COMPRESSED, RERUN = 0, 1, 2, 3
_Number = TypeVar("_Number", np.int64, np.float64)


class RowArrays(NamedTuple):
    """One row per unit and option; columns are named in :mod:`.columns`.

    Attributes:
        ints: bytes inside the unit that stay or wait for their copy; bytes inside it that go to
            the host; all bytes that do, and their number; bytes of compressed copies; bytes that
            are restored inside the unit, and the peak meanwhile; 1 if something runs again, its
            peak, and the bytes inside the unit that it makes; where the row's levels and actions
            begin in ``values``, and where what the rerun reads begins and ends there.
            # [rows][14]
        seconds: of the forward, the copy there, the copy back, restoring, running again.
            # [rows][5]
        values: flat: levels of the forward, actions of the unit's crossing saved storages, and
            crossing storages that the rerun reads.
    """

    ints: Ints
    seconds: Floats
    values: Ints


class OptionRows:
    """Rows of one chain.

    Args:
        chain: the units.
        rates: of the host link.
    """

    def __init__(self, chain: Chain, rates: HostLinkRates) -> None:
        self._chain = chain
        self._rates = rates
        self._index = crossing_index(chain)
        self._known: dict[tuple[int, int], tuple[int, UnitOption]] = {}
        self._by_value: dict[tuple[int, UnitOption], int] = {}
        self._ints = _Growing[np.int64](np.zeros((64, NUM_ROW_COLUMNS), dtype=np.int64))
        self._seconds = _Growing[np.float64](np.zeros((64, 5), dtype=np.float64))
        self._values = _Growing[np.int64](np.zeros(64, dtype=np.int64))

    def row(self, unit: int, option: UnitOption) -> int:
        """Row of an option of a unit; ``WHOLE`` if it recomputes the whole unit."""
        # Most options come out of menus, so the same object is met again and again.
        known = self._known.get((unit, id(option)))
        if known is not None:
            return known[0]
        row = WHOLE if is_recompute(option) else self._find(unit, option)
        self._known[unit, id(option)] = (row, option)
        return row

    def arrays(self) -> RowArrays:
        """All rows so far."""
        return RowArrays(self._ints.data, self._seconds.data, self._values.data)

    def _find(self, unit: int, option: UnitOption) -> int:
        row = self._by_value.get((unit, option))
        if row is None:
            row = self._by_value[unit, option] = self._ints.count
            self._append(unit, unit_plan(self._chain, unit, option))
        return row

    def _append(self, unit: int, plan: UnitPlan) -> None:
        chain, rerun = self._chain, plan.rerun
        fills = rerun.fills if rerun is not None else ()
        sizes = [chain.num_bytes(s) for s in plan.offload]
        levels = self._add_values(self._segments(unit, plan))
        actions = self._add_values(self._actions(unit, plan, fills))
        reads = self._add_values([self._index[s] for s in (rerun.reads if rerun else ())])
        row = (
            self._inside((*plan.keep, *plan.offload)),
            self._inside(plan.offload),
            sum(sizes),
            len(sizes),
            sum(plan.compressed_bytes),
            self._inside(plan.compress),
            plan.restore_rise_bytes,
            int(rerun is not None),
            rerun.transient_bytes if rerun is not None else 0,
            self._inside(fills),
            levels,
            actions,
            reads,
            self._values.count,
        )
        self._ints.append(row)
        self._seconds.append(self._row_seconds(unit, plan, sizes))

    def _add_values(self, values: Iterable[int]) -> int:
        """Append to the flat array; returns where they begin."""
        first = self._values.count
        for value in values:
            self._values.append(value)
        return first

    def _actions(self, unit: int, plan: UnitPlan, fills: tuple[int, ...]) -> list[int]:
        """Action of every crossing saved storage of a unit."""
        actions = dict.fromkeys(plan.keep, KEPT) | dict.fromkeys(plan.offload, OFFLOADED)
        actions |= dict.fromkeys(plan.compress, COMPRESSED) | dict.fromkeys(fills, RERUN)
        saved = self._chain.units[unit].saved
        return [actions[s.storage] for s in saved if s.storage in self._index]

    def _row_seconds(self, unit: int, plan: UnitPlan, sizes: list[int]) -> tuple[float, ...]:
        record = self._chain.units[unit]
        rerun_s = plan.rerun.duration_s if plan.rerun is not None else 0.0
        return (
            record.forward_s + plan.record_overhead_s + plan.compress_s,
            record.hooks_s + self._rates.store_s(sizes),
            self._rates.load_s(sizes),
            plan.restore_s,
            rerun_s + plan.rerun_overhead_s,
        )

    def _segments(self, unit: int, plan: UnitPlan) -> list[int]:
        chain = self._chain
        record = chain.units[unit]
        held = {*plan.keep, *plan.offload}
        survivors = {
            s
            for s in record.created
            if s in held or chain.graph.storages[s].dropped > record.forward[1]
        }
        ops = range(*record.forward)
        levels = chain.levels(ops, survivors, arrivals=plan.arrivals(record))
        return segments(ops, levels, drop_events(chain, record, self._index))

    def _inside(self, storages: tuple[int, ...]) -> int:
        """Bytes of the storages that nobody but the unit may hold."""
        return sum(self._chain.num_bytes(s) for s in storages if s not in self._index)


class _Growing(Generic[_Number]):
    """An array that rows are appended to; it has unused rows at its end."""

    def __init__(self, data: NDArray[_Number]) -> None:
        self.count = 0
        self.data: NDArray[_Number] = data

    def append(self, value: float | Sequence[float]) -> None:
        if self.count == len(self.data):
            self.data = np.concatenate([self.data, np.zeros_like(self.data)])
        self.data[self.count] = value
        self.count += 1
