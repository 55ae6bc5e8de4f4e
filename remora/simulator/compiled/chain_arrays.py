"""Tables of a chain as arrays, for the compiled engine.

A storage is *crossing* if somebody beside its maker may hold it: another unit reads it, or the
program holds it past the maker's forward or backward. Crossing storages are followed one by one;
everything else inside a unit is a sum that depends on the unit's own option only.

Peaks inside a unit are tables too. While a unit runs, crossing storages may be let go of at known
operators, each only if nobody else holds it. Between two such operators the level is fixed, so a
row of *segments* (the largest level between one and the next, as if none was let go of) gives
the peak for every combination.

Letters: n units, x crossing storages, made in the forward first, then those of the backward.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import Chain, ChainUnit

__all__ = ["NEVER", "ChainArrays", "chain_arrays", "crossing_index", "drop_events", "segments"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER = -(2**60)
"""Level of a segment without operators."""


class ChainArrays(NamedTuple):
    """See the module's docstring; columns and rows are named in :mod:`.columns`.

    Attributes:
        cross: size, maker, whether the program holds it past its maker's forward, whether it is
            made before a recomputation of its maker stops early, the first and last unit that
            reads or saves it beside its maker, whether its gradient goes back the way it came,
            and, for a part of a shared weight's gradient, the unit that adds to it (else -1).
            # [x][8]
        num_forward: crossing storages made in the forward.  # [1]
        table: rows of ``values`` by unit: row k of unit u is ``table[k, u]`` to
            ``table[k, u + 1]``. What a forward saves, reads from earlier units, makes and lets go
            of; what its backward may let go of, in order (place in what it saved, or -1 - storage
            for what the program holds), makes, and lets go of; what the second half of its
            backward reads; levels; what each half makes, and lets go of; levels.  # [19][n + 1]
        values: flat.
        unit: bytes inside the unit that it saves, and that the second half of its backward reads;
            peak of that half if parameter gradients stay, are added to others, or are added to
            others together with parts of shared weights' gradients.  # [n][5]
        seconds: forward, rerun, rerun that stops early, backward and its halves.  # [n][6]
        reader_start, readers: units that read every crossing storage of the forward.
    """

    cross: Ints
    num_forward: Ints
    table: Ints
    values: Ints
    unit: Ints
    seconds: Floats
    reader_start: Ints
    readers: Ints


def chain_arrays(chain: Chain) -> ChainArrays:
    """Turn the tables of a chain into arrays."""
    return _Builder(chain).build()


def crossing_index(chain: Chain) -> dict[int, int]:
    """Number the crossing storages; keys are storages of the graph."""
    storages = chain.graph.storages
    forward = [
        s
        for unit in chain.units
        for s in unit.created
        if chain.readers[s] or storages[s].dropped > unit.forward[1]
    ]
    backward = [
        s
        for unit in reversed(chain.units)
        for s in unit.created_backward
        if storages[s].role != GRADIENT and storages[s].dropped > unit.backward[1]
    ]
    return {storage: number for number, storage in enumerate((*forward, *backward))}


def segments(ops: Sequence[int], levels: Sequence[int], events: Sequence[int]) -> list[int]:
    """Largest level from each event to the next; the first entry is that before any event.

    Args:
        ops: operators, ascending.
        levels: by operator.
        events: operator counts, ascending; an event counts for operators from its count on.
    """
    begins = [0, *(bisect_left(ops, event) for event in events)]
    ends = [*begins[1:], len(ops)]
    pieces = zip(begins, ends, strict=True)
    return [max(levels[begin:end], default=NEVER) for begin, end in pieces]


class _Builder:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._graph = chain.graph
        self._storages = chain.graph.storages
        self._index = crossing_index(chain)
        self._parts = chain.partial_gradients

    def build(self) -> ChainArrays:
        chain, units = self._chain, self._chain.units
        order = list(self._index)
        num_forward = sum(1 for s in order if s in chain.creator_unit)
        readers = [sorted(chain.readers[s]) for s in order[:num_forward]]
        readers += [[]] * (len(order) - num_forward)
        table, values = _ragged_table(self._rows())
        reader_start, flat_readers = _ragged_table([readers])
        return ChainArrays(
            cross=_ints([self._cross(s) for s in order], 10),
            num_forward=np.array([num_forward], dtype=np.int64),
            table=table,
            values=values,
            unit=_ints([self._unit(unit) for unit in units], 6),
            seconds=np.array([self._seconds(unit) for unit in units], dtype=np.float64),
            reader_start=reader_start[0],
            readers=flat_readers,
        )

    def _rows(self) -> list[list[list[int]]]:
        """Rows of ``ChainArrays.table``, in the order of :mod:`.columns`."""
        chain, units = self._chain, self._chain.units
        return [
            [self._numbers(s.storage for s in unit.saved) for unit in units],
            [self._numbers(unit.inputs) for unit in units],
            [self._numbers(unit.created) for unit in units],
            [self._numbers(unit.dropped_forward) for unit in units],
            [[code for _, code in self._deaths(unit)] for unit in units],
            [self._numbers(unit.created_backward) for unit in units],
            [self._numbers(unit.dropped_backward) for unit in units],
            [self._numbers(chain.split(unit.index).carried) for unit in units],
            [self._forward_segments(unit, keep=False) for unit in units],
            [self._forward_segments(unit, keep=True, again=True) for unit in units],
            [self._forward_segments(unit, keep=True, again=True, stop=True) for unit in units],
            [self._backward_segments(unit, stay=True) for unit in units],
            [self._backward_segments(unit, stay=False) for unit in units],
            [self._input_segments(unit) for unit in units],
            [self._backward_segments(unit, stay=False, parts_stay=False) for unit in units],
            [self._numbers(self._made_by_half(unit, inputs=True)) for unit in units],
            [self._numbers(self._made_by_half(unit, inputs=False)) for unit in units],
            [self._numbers(s for s in u.dropped_backward if s in self._parts) for u in units],
            [self._forward_segments(unit, keep=False, again=True) for unit in units],
        ]

    def _numbers(self, storages: Iterable[int]) -> list[int]:
        """Numbers of the crossing ones among storages of the graph."""
        return [self._index[s] for s in storages if s in self._index]

    def _cross(self, storage: int) -> tuple[int, ...]:
        record = self._storages[storage]
        readers = sorted(self._chain.readers.get(storage, ()))
        maker = self._chain.units[self._graph.ops[record.created].unit]
        return (
            self._chain.num_bytes(storage),
            maker.index,
            int(record.dropped > maker.forward[1]),
            int(record.created < maker.stop_op),
            readers[0] if readers else -1,
            readers[-1] if readers else -1,
            int(storage in self._chain.differentiable),
            self._parts.get(storage, -1),
            *self._chain.handed(storage),
        )

    def _unit(self, unit: ChainUnit) -> tuple[int, ...]:
        split = self._chain.split(unit.index)
        carried = split.carried
        return (
            sum(s.num_bytes for s in unit.saved if s.storage not in self._index),
            sum(self._chain.num_bytes(s) for s in carried if s not in self._index),
            self._weight_peak(unit, stay=True),
            self._weight_peak(unit, stay=False),
            self._weight_peak(unit, stay=False, parts_stay=False),
            int(bool(split.inputs.ops)),
        )

    def _seconds(self, unit: ChainUnit) -> tuple[float, ...]:
        split = self._chain.split(unit.index)
        return (
            unit.forward_s,
            unit.hooks_s + unit.forward_s,
            unit.hooks_s + unit.rerun_s,
            unit.backward_s,
            self._chain.half_time_s(split.inputs),
            self._chain.half_time_s(split.weights),
        )

    def _forward_segments(
        self, unit: ChainUnit, keep: bool, again: bool = False, stop: bool = False
    ) -> list[int]:
        kept = {saved.storage for saved in unit.saved} if keep else set()
        end = unit.stop_op if stop else unit.forward[1]
        survivors = {
            s
            for s in unit.created
            if self._storages[s].created < end
            and (s in kept or self._storages[s].dropped > unit.forward[1])
        }
        ends = self._chain.rerun_ends(unit.index) if again else {}
        ops = range(unit.forward[0], end)
        levels = self._chain.levels(ops, survivors, ends=ends)
        return segments(ops, levels, drop_events(self._chain, unit, self._index))

    def _deaths(self, unit: ChainUnit) -> list[tuple[int, int]]:
        """(operator count, code) of everything that a backward may let go of, in order."""
        crossing = [s for s in unit.saved if s.storage in self._index]
        found = [(saved.released, place) for place, saved in enumerate(crossing)]
        found += [
            (self._storages[s].dropped, -1 - self._index[s])
            for s in unit.dropped_backward
            if s in self._index
        ]
        return sorted(found)

    def _outlives(self, storage: int, unit: ChainUnit, stay: bool, parts_stay: bool) -> bool:
        """Whether something that a backward makes outlives it.

        Args:
            storage: made by it.
            unit: whose backward.
            stay: gradients of weights do.
            parts_stay: parts of the gradients of shared weights do.
        """
        if self._is_gradient(storage) or (storage in self._parts and not parts_stay):
            return stay
        return self._storages[storage].dropped > unit.backward[1]

    def _made_by_half(self, unit: ChainUnit, inputs: bool) -> list[int]:
        split = self._chain.split(unit.index)
        half = split.inputs if inputs else split.weights
        made = {s for op in half.ops for s in self._chain.made_by(op)} - half.absent
        return [s for s in unit.created_backward if s in made]

    def _backward_segments(self, unit: ChainUnit, stay: bool, parts_stay: bool = True) -> list[int]:
        created = unit.created_backward
        survivors = {s for s in created if self._outlives(s, unit, stay, parts_stay)}
        inside = [(s.storage, s.released) for s in unit.saved if s.storage not in self._index]
        ops = range(*unit.backward)
        levels = self._chain.levels(ops, survivors, inside)
        return segments(ops, levels, [event for event, _ in self._deaths(unit)])

    def _input_segments(self, unit: ChainUnit) -> list[int]:
        chain, split = self._chain, self._chain.split(unit.index)
        made = {s for op in split.inputs.ops for s in chain.made_by(op)} - split.inputs.absent
        survivors = {
            s for s in made if s in split.carried or self._storages[s].dropped > unit.backward[1]
        }
        levels = chain.levels(split.inputs.ops, survivors, absent=split.inputs.absent)
        events = [self._storages[s].dropped for s in unit.dropped_backward if s in self._index]
        return segments(split.inputs.ops, levels, events)

    def _weight_peak(self, unit: ChainUnit, stay: bool, parts_stay: bool = True) -> int:
        """Peak of the second half of a backward, whose gradients stay or do not."""
        chain, half = self._chain, self._chain.split(unit.index).weights
        made = self._made_by_half(unit, inputs=False)
        kept = {s for s in made if self._outlives(s, unit, stay, parts_stay)}
        return chain.transient_bytes(half.ops, unit, kept, (), absent=half.absent)

    def _is_gradient(self, storage: int) -> bool:
        return self._storages[storage].role == GRADIENT


def drop_events(chain: Chain, unit: ChainUnit, index: dict[int, int]) -> list[int]:
    """Operator counts at which the forward of ``unit`` lets go of crossing storages."""
    return [chain.graph.storages[s].dropped for s in unit.dropped_forward if s in index]


def _ints(rows: Sequence[Sequence[int]], columns: int) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(-1, columns)


def _ragged_table(rows: Sequence[Sequence[Sequence[int]]]) -> tuple[Ints, Ints]:
    """Where every entry of every row begins in one flat array, and that array."""
    width = len(rows[0]) if rows else 0
    table = np.zeros((len(rows), width + 1), dtype=np.int64)
    flat: list[int] = []
    for number, row in enumerate(rows):
        for place, entry in enumerate(row):
            table[number, place] = len(flat)
            flat.extend(entry)
        table[number, width] = len(flat)
    return table, np.array(flat, dtype=np.int64)
