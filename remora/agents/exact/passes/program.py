"""What waits on the host in one pipeline of inference, as an integer program.

The rules are the simulator's own, so its optimum is the optimum for that pipeline and pace.

Variables: for every unit, whether its weights are streamed and whether its cache waits on the host;
for weights that several units read, whether all of these are streamed; the end of every forward,
and of the copies and messages up to it.

Rows of time: a copy from the host ends after the one before it and after the forward at which it
was asked for, plus its own seconds if it happens; a forward ends after the one before it and after
its copy and messages. A copy that does not happen then ends where it could have begun, which is
never later than the forward before its user, so no row has to be switched off. Rows of memory:
while a unit runs, its rank holds what stays, the weights of the units that were asked for, and the
caches that were asked for or are not written back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from remora.agents.exact.menus.milp_solver import MixedProgram, Term
from remora.agents.exact.passes.tables import PassTables, Place, RankTable
from remora.schedule.pass_space import Waiting

__all__ = ["PassChoice", "PassLimits", "choose_waiting"]

# A pass counts as this much, so that the solver's absolute tolerances are small beside it.
_TIME_PARTS = 1000.0
_CHOSEN = 0.5


@dataclass(frozen=True, slots=True)
class PassLimits:
    """What a choice has to stay within, and the pace of its copies.

    Attributes:
        device_bytes, host_bytes: of one rank.
        distance: weights and caches are asked for so many units ahead.
        window: what a unit adds to a cache is waited for so many units later.
    """

    device_bytes: int
    host_bytes: int
    distance: int
    window: int


@dataclass(frozen=True, slots=True)
class PassChoice:
    """What the solver found.

    Attributes:
        waiting: on the host; None if the solver has no choice.
        bound_s: no choice takes less; infinite if none fits.
    """

    waiting: Waiting | None
    bound_s: float


def choose_waiting(tables: PassTables, limits: PassLimits, time_limit_s: float) -> PassChoice:
    """Solve for the fastest choice that fits.

    Args:
        tables: of a pipeline.
        limits: memory and pace.
        time_limit_s: seconds for the solver; a bound comes back in any case.

    Raises:
        MissingExtraError: the solver is not installed.
    """
    program = _Program(tables, limits)
    for number, rank in enumerate(tables.ranks):
        program.add_memory(rank)
        program.add_times(number, rank)
    program.add_messages()
    return program.solve(time_limit_s)


class _Program:
    def __init__(self, tables: PassTables, limits: PassLimits) -> None:
        self._tables = tables
        self._limits = limits
        self._rows = MixedProgram()
        seconds = sum(place.compute_s for rank in tables.ranks for place in rank.places)
        self._scale = _TIME_PARTS / (seconds or 1.0)
        self._end = self._rows.continuous(cost=1.0)
        self._streamed = {unit: self._rows.binary() for unit in sorted(tables.streamable)}
        self._cache = {unit: self._rows.binary() for unit in sorted(tables.caches)}
        self._shared: dict[frozenset[int], int] = {}
        self._loads: dict[int, list[Term]] = {}
        self._ends: list[list[int]] = []
        self._runs: dict[tuple[int, int], tuple[int, int]] = {}

    def add_memory(self, rank: RankTable) -> None:
        """Add the rows of memory of a rank, and one for its host."""
        limits, units = self._limits, rank.units
        count = len(rank.places) // len(units)
        kept = [(self._weight(w.units), -float(w.num_bytes)) for w in rank.weights]
        caches = [(u, self._tables.caches[u].held) for u in units if u in self._cache]
        kept += [(self._cache[u], -float(held * count)) for u, held in caches]
        resident = rank.fixed_bytes + sum(w.num_bytes for w in rank.weights)
        spec_bytes = sum(held * count for _, held in caches)
        for position, place in enumerate(rank.places):
            terms = kept + self._present(rank, position)
            limit = limits.device_bytes - resident - spec_bytes - place.local_bytes
            self._rows.at_most(_summed(terms), limit)
        away = [(column, -factor) for column, factor in kept]
        self._rows.at_most(_summed(away), limits.host_bytes)

    def add_times(self, number: int, rank: RankTable) -> None:
        """Add forwards and host copies of a rank."""
        places, rows = rank.places, self._rows
        ends = [rows.continuous() for _ in places]
        self._ends.append(ends)
        loads = [rows.continuous() for _ in places]
        stores = [rows.continuous() for _ in places]
        first, last = rank.units[0], rank.units[-1]
        for position, place in enumerate(places):
            self._note_run(number, position, place, first, last)
            before = [ends[position - 1]] if position else []
            self._add_load(rank, position, loads, ends)
            ready = [(loads[position], ())] if self._tables.overlap else []
            inline = () if self._tables.overlap else self._inline(rank, position)
            for column in before:
                self._after(ends[position], column, place.compute_s, inline)
            if not before:
                self._after(ends[position], None, place.compute_s, inline)
            for column, terms in ready:
                self._after(ends[position], column, place.compute_s, terms)
            due = position - self._limits.window
            if due >= 0 and self._tables.overlap:
                self._after(ends[position], stores[due], place.compute_s)
            store = self._store_terms(place.unit)
            self._after(stores[position], ends[position], 0.0, store)
            if position:
                self._after(stores[position], stores[position - 1], 0.0, store)
            self._after(self._end, stores[position], 0.0)

    def add_messages(self) -> None:
        """Add what ranks send each other."""
        for number, rank in enumerate(self._tables.ranks):
            previous: int | None = None
            tasks = len(rank.places) // len(rank.units)
            sent: list[list[int]] = []
            for task in range(tasks):
                first, last = self._runs[number, task]
                if task >= 2 and rank.messages:
                    compute_s = rank.places[task * len(rank.units)].compute_s
                    for column in sent[task - 2]:
                        self._after(first, column, compute_s)
                sent.append([])
                for message in rank.messages:
                    column = self._rows.continuous()
                    self._after(column, last, message.duration_s)
                    if previous is not None:
                        self._after(column, previous, message.duration_s)
                    previous = column
                    sent[-1].append(column)
                    target = self._tables.ranks[message.target]
                    begin, _ = self._runs[message.target, task]
                    compute_s = target.places[task * len(target.units)].compute_s
                    self._after(begin, column, compute_s)
                    self._after(self._end, column, 0.0)

    def solve(self, time_limit_s: float) -> PassChoice:
        """Minimise the end of the pass."""
        answer = self._rows.solve(time_limit_s)
        bound_s = answer.bound / self._scale
        if answer.values is None:
            return PassChoice(None, bound_s)
        values = answer.values
        chosen = [
            frozenset(unit for unit, column in columns.items() if values[column] > _CHOSEN)
            for columns in (self._streamed, self._cache)
        ]
        return PassChoice(Waiting(*chosen), bound_s)

    def _note_run(self, number: int, position: int, place: Place, first: int, last: int) -> None:
        """Remember the first and last forward of every micro-batch of a rank."""
        ends, task = self._ends[number], place.micro_batch
        if place.unit == first:
            self._runs[number, task] = (ends[position], ends[position])
        if place.unit == last:
            self._runs[number, task] = (self._runs[number, task][0], ends[position])

    def _add_load(
        self, rank: RankTable, position: int, loads: Sequence[int], ends: Sequence[int]
    ) -> None:
        """What a unit needs from the host is there after it was asked for and copied."""
        terms = self._load_terms(rank, rank.places[position].unit)
        asked = self._asked(rank, position)
        self._after(loads[position], ends[asked - 1] if asked else None, 0.0, terms)
        if position:
            self._after(loads[position], loads[position - 1], 0.0, terms)

    def _asked(self, rank: RankTable, position: int) -> int:
        """Position of the forward with which the needs of another one are asked for."""
        begin = position - position % len(rank.units)
        return max(begin, position - self._limits.distance)

    def _inline(self, rank: RankTable, position: int) -> tuple[Term, ...]:
        """Copies that run before a forward on its own stream."""
        end = position - position % len(rank.units) + len(rank.units)
        terms: list[Term] = []
        for later in range(position, min(end, position + self._limits.distance + 1)):
            if self._asked(rank, later) == position:
                terms += self._load_terms(rank, rank.places[later].unit)
        if position:
            terms += self._store_terms(rank.places[position - 1].unit)
        return tuple(terms)

    def _load_terms(self, rank: RankTable, unit: int) -> list[Term]:
        """Seconds of bringing in what a unit needs, by column."""
        if unit in self._loads:
            return self._loads[unit]
        tables, rows = self._tables, self._rows
        weights = [w for w in rank.weights if unit in w.units]
        terms = [(self._weight(w.units), w.num_bytes / tables.h2d_bytes_per_s) for w in weights]
        if weights and tables.latency_s:
            happens = self._streamed[unit]
            if all(w.units != {unit} for w in weights):
                happens = rows.continuous(1.0)
                for weight in weights:
                    rows.at_most([(self._weight(weight.units), 1.0), (happens, -1.0)], 0.0)
            terms.append((happens, tables.latency_s))
        cache = tables.caches.get(unit)
        if cache is not None and cache.loaded:
            load_s = tables.latency_s + cache.loaded / tables.h2d_bytes_per_s
            terms.append((self._cache[unit], load_s))
        self._loads[unit] = terms
        return terms

    def _store_terms(self, unit: int) -> list[Term]:
        tables, cache = self._tables, self._tables.caches.get(unit)
        if cache is None:
            return []
        store_s = tables.latency_s + cache.stored / tables.d2h_bytes_per_s
        return [(self._cache[unit], store_s)]

    def _present(self, rank: RankTable, position: int) -> list[Term]:
        """Bytes that came from the host and are on the device while a forward runs."""
        units, limits = rank.units, self._limits
        place = position % len(units)
        asked = units[place : place + limits.distance + 1]
        terms = [
            (self._weight(w.units), float(w.num_bytes))
            for unit in asked
            for w in rank.weights
            if unit in w.units
        ]
        leaving = [
            rank.places[earlier].unit
            for earlier in range(max(0, position - limits.window + 1), position)
        ]
        for unit in (*asked, *leaving):
            if unit in self._cache:
                terms.append((self._cache[unit], float(self._tables.caches[unit].held)))
        return terms

    def _weight(self, units: frozenset[int]) -> int:
        """The column of weights that these units read."""
        if len(units) == 1:
            return self._streamed[min(units)]
        if units not in self._shared:
            column = self._rows.continuous(1.0)
            each = [self._streamed[unit] for unit in sorted(units)]
            for unit in each:
                self._rows.at_most([(column, 1.0), (unit, -1.0)], 0.0)
            all_of_them = [(unit, 1.0) for unit in each]
            self._rows.at_most([*all_of_them, (column, -1.0)], len(each) - 1.0)
            self._shared[units] = column
        return self._shared[units]

    def _after(
        self, column: int, before: int | None, seconds: float, extra: Sequence[Term] = ()
    ) -> None:
        """A row: ``column`` ends that many seconds, and those of ``extra``, after ``before``."""
        terms: list[Term] = [(column, -1.0)]
        if before is not None:
            terms.append((before, 1.0))
        terms += [(other, factor * self._scale) for other, factor in extra]
        self._rows.at_most(_summed(terms), -seconds * self._scale)


def _summed(terms: Sequence[Term]) -> list[Term]:
    """Terms with one factor per column."""
    found: dict[int, float] = {}
    for column, factor in terms:
        found[column] = found.get(column, 0.0) + factor
    return [(column, factor) for column, factor in found.items() if not math.isclose(factor, 0.0)]
