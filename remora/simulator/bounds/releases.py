"""Variables of a linear program for everything that a schedule may free, with their costs.

Every share between 0 and 1 of a storage may be free, which only makes the program cheaper than
the schedules it stands for. A storage that is free by a link crosses it both ways; one freed by
recomputation or compression takes time of the compute stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remora.schedule.chain import Chain
from remora.schedule.host_copies import HostLinkRates
from remora.schedule.parameters import StaticStorage
from remora.simulator.bounds.freeable import Freeable
from remora.simulator.bounds.linear_program import LinearProgram

__all__ = ["Releases", "Term", "Transfer", "Ways"]

Term = tuple[int, float]
"""A variable and its factor."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What may leave the device, and at which rates.

    Attributes:
        rates: of the host link; None where nothing can move to the host.
        streamed: weights that may wait on the host.
    """

    rates: HostLinkRates | None
    streamed: Sequence[StaticStorage] = ()


@dataclass(frozen=True, slots=True)
class Transfer:
    """A share of some bytes that crosses the host link.

    Attributes:
        variable: the share.
        seconds: for all of them.
        unit: after whose forward a store begins at the earliest; before whose backward a load ends
            at the latest.
    """

    variable: int
    seconds: float
    unit: int


class Releases:
    """Variables of one micro-batch.

    Args:
        program: receives the variables and rows.
        chain: per-unit tables of the micro-batch.
        groups: what can be freed.
        ways: where to.
        time_unit_s: seconds that count as 1 in the program.

    Attributes:
        recompute, compress, restore: seconds of the compute stream.
        stores, loads: copies of activations to the host, and back.
        streamed: shares of the weights that wait on the host.
        weights: loads of these for one forward or backward of one unit each.

    All times of these are in the program's unit.
    """

    def __init__(
        self,
        program: LinearProgram,
        chain: Chain,
        groups: Sequence[Freeable],
        ways: Ways,
        time_unit_s: float,
    ) -> None:
        self.recompute: list[Term] = []
        self.compress: list[Term] = []
        self.restore: list[Term] = []
        self.stores: list[Transfer] = []
        self.loads: list[Transfer] = []
        self.streamed: list[tuple[int, StaticStorage]] = []
        self.weights: list[Transfer] = []
        self._time_unit_s = time_unit_s
        self._program = program
        self._chain = chain
        self._ways = ways
        self._freed: list[tuple[int, frozenset[int], list[Term]]] = []
        self._copied: set[int] = set()
        self._partly: dict[int, list[Term]] = {}
        self._wholly: dict[int, list[list[Term]]] = {}
        for group in groups:
            self._add_group(group)
        if ways.rates is not None:
            for entry in ways.streamed:
                self._add_weights(entry, ways.rates)
        self._add_reruns()

    def freed_at(self, position: int, copied: bool = True) -> list[Term]:
        """Bytes that are free at the start of the backward of unit ``position``.

        Args:
            position: the unit.
            copied: count activations that are on the host too.
        """
        return [
            term
            for low, present_at, terms in self._freed
            if low < position and position not in present_at
            for term in terms
            if copied or term[0] not in self._copied
        ]

    def _add_group(self, group: Freeable) -> None:
        pieces = [(self._program.variable(), piece) for piece in group.pieces]
        freed: list[Term] = [(variable, piece.num_bytes) for variable, piece in pieces]
        taken = list(freed)
        seconds: list[Term] = [(v, piece.seconds / self._time_unit_s) for v, piece in pieces]
        if group.whole_unit and seconds:
            self._wholly.setdefault(group.creator, []).append(seconds)
        elif seconds:
            self._partly.setdefault(group.creator, []).extend(seconds)
        if self._ways.rates is not None:
            variable = self._program.variable()
            self._copied.add(variable)
            freed.append((variable, group.num_bytes))
            taken.append((variable, group.num_bytes))
            self._add_copies(variable, group, self._ways.rates)
        if group.compressible_bytes:
            variable = self._program.variable()
            freed.append((variable, group.compressible_bytes - group.compressed_bytes))
            taken.append((variable, group.compressible_bytes))
            costs = self._chain.costs
            size = group.compressible_bytes / self._time_unit_s
            self.compress.append((variable, size / costs.compress_bytes_per_s))
            self.restore.append((variable, size / costs.restore_bytes_per_s))
        self._program.at_least([(v, -size / group.num_bytes) for v, size in taken], -1.0)
        self._freed.append((group.low, group.present_at, freed))

    def _add_copies(self, variable: int, group: Freeable, rates: HostLinkRates) -> None:
        """Copy any share of a group, at the price per byte of its largest storage."""
        count = group.num_bytes / group.largest_bytes / self._time_unit_s
        store_s = count * rates.store_s([group.largest_bytes])
        load_s = count * rates.load_s([group.largest_bytes])
        self.stores.append(Transfer(variable, store_s, group.creator))
        self.loads.append(Transfer(variable, load_s, group.low))

    def _add_weights(self, entry: StaticStorage, rates: HostLinkRates) -> None:
        variable = self._program.variable()
        self._freed.append((-1, entry.units, [(variable, entry.num_bytes)]))
        self.streamed.append((variable, entry))
        seconds = entry.num_bytes / rates.h2d_bytes_per_s / self._time_unit_s
        self.weights += [Transfer(variable, seconds, unit) for unit in sorted(entry.units)]

    def _add_reruns(self) -> None:
        """One variable per unit for the seconds of running it again, in part or whole."""
        for creator in sorted({*self._partly, *self._wholly}):
            rows = [self._partly.get(creator, []), *self._wholly.get(creator, [])]
            most = max(sum(factor for _, factor in row) for row in rows)
            seconds = self._program.variable(most)
            for row in rows:
                if row:
                    self._program.at_least([(seconds, 1.0), *_negative(row)], 0.0)
            self.recompute.append((seconds, 1.0))


def _negative(terms: Iterable[Term]) -> list[Term]:
    return [(variable, -factor) for variable, factor in terms]
