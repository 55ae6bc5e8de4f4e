"""Activations that outlive the unit that makes them: who may hold them, and how long."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import Chain
from remora.simulator.compiled.chain_arrays import crossing_index

__all__ = ["CrossingStorages"]

Ints = NDArray[np.int64]


class CrossingStorages:
    """Crossing storages of a chain's forward, numbered; n units, x storages.

    The *border* of unit c holds those made before c that the program still holds when the forward
    of c begins, or that a unit from c on reads.

    Args:
        chain: the units.

    Attributes:
        number: by storage of the graph.
        size, maker, first_reader, last_reader: bytes and units; n and -1 without readers.  # [x]
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.num_units = len(chain.units)
        forward = [s for s in crossing_index(chain) if s in chain.creator_unit]
        self.number = {storage: place for place, storage in enumerate(forward)}
        readers = [sorted(chain.readers.get(s, ())) for s in forward]
        self._readers = readers
        self.size = _ints([chain.num_bytes(s) for s in forward])
        self.maker = _ints([chain.creator_unit[s] for s in forward])
        self.first_reader = _ints([found[0] if found else self.num_units for found in readers])
        self.last_reader = _ints([found[-1] if found else -1 for found in readers])

    @cached_property
    def until(self) -> Ints:
        """Last unit whose border holds a storage; n if the program does into the backward."""
        dropped = {s: u.index for u in self._chain.units for s in u.dropped_forward}
        last = [dropped.get(s, self.num_units) for s in self.number]
        return np.maximum(_ints(last), self.last_reader)

    @cached_property
    def border(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the storages on the border of every unit.  # [n + 1][border]."""
        return tuple(
            tuple(np.flatnonzero((self.maker < unit) & (self.until >= unit)).tolist())
            for unit in range(self.num_units + 1)
        )

    @cached_property
    def border_made_since(self) -> Ints:
        """Bytes on the border of unit c that units from s on made, at [c, s].  # [n + 1][n + 1]."""
        found = np.zeros((self.num_units + 1, self.num_units + 1), dtype=np.int64)
        for unit, border in enumerate(self.border):
            for number in border:
                found[unit, : self.maker[number] + 1] += self.size[number]
        return found

    @cached_property
    def stays(self) -> NDArray[np.bool_]:
        """Whether the program holds a storage into the backward.  # [x]."""
        return np.asarray(self.until >= self.num_units)

    @cached_property
    def held_into_backward(self) -> Ints:
        """Bytes that every unit makes and the program holds into the backward.  # [n]."""
        found = np.zeros(self.num_units, dtype=np.int64)
        for number in np.flatnonzero(self.stays):
            found[self.maker[number]] += self.size[number]
        return found

    @cached_property
    def late(self) -> Ints:
        """Bytes that the program still holds at the backward of a unit, made by later ones.

        # [n].
        """
        ends = {s: u.index for u in self._chain.units for s in u.dropped_backward}
        found = np.zeros(self.num_units, dtype=np.int64)
        for storage, number in self.number.items():
            if self.stays[number]:
                found[max(ends.get(storage, 0), 0) : self.maker[number]] += self.size[number]
        return found

    @cached_property
    def passed_gradients(self) -> Ints:
        """Bytes of gradients of activations that exist when the backward of a unit begins.

        # [n].
        """
        chain = self._chain
        ends = {s: u.index for u in chain.units for s in u.dropped_backward}
        found = np.zeros(self.num_units, dtype=np.int64)
        for unit in chain.units:
            for storage in unit.created_backward:
                record = chain.graph.storages[storage]
                if record.role != GRADIENT and record.dropped > unit.backward[1]:
                    found[ends.get(storage, 0) : unit.index] += chain.num_bytes(storage)
        return found

    def next_reader(self, number: int, unit: int) -> int:
        """First unit from ``unit`` on that reads a storage; n without one."""
        return next((r for r in self._readers[number] if r >= unit), self.num_units)


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)
