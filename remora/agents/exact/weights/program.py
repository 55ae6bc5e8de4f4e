"""Which units' weights to stream, as an integer program over the tables of one memory plan.

Source: Beaumont, Eyraud-Dubois, Shilova, Zhao, "Weight offloading strategies for training large
DNN models", hal-03580767 (2022), who show that the choice is strongly NP-complete and bound it by
an integer program. Here the program has the simulator's own rules, so its optimum is the optimum.

Variables: for every unit, whether its weights are streamed; for weights that several units read,
whether all of these are; for every task, by how much it ends later than it would without loads.
Rows:

- memory: at every point the weights that are away, less those that are there for their use, make
  up for what is above the budget; the same for the host;
- time: a task ends no earlier than the one before it in its stream and those that it waits for,
  plus its own seconds; a load takes seconds only if it happens;
- the step ends with the optimizer and the return of the changed weights that are not streamed.

A fractional choice could hide a part of every load. So one more row for each load says what only
whole choices obey: a load that happens delays its user by what its window does not cover.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from remora.agents.exact.weights.rows import IntegerRows, Term
from remora.agents.exact.weights.tables import Bundle, StreamTables, Task
from remora.schedule.program import Stream

__all__ = ["Limits", "StreamChoice", "choose_streamed"]

# A step counts as this much, so that the solver's absolute tolerances are small beside it.
_TIME_PARTS = 1000.0
_CHOSEN = 0.5
# What the solver's tolerances may take away from a bound, as a part of the step.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """What a choice has to stay within.

    Attributes:
        device_bytes: memory of the device.
        host_bytes: pinned memory of the host.
    """

    device_bytes: float
    host_bytes: float


@dataclass(frozen=True, slots=True)
class StreamChoice:
    """What the solver found.

    Attributes:
        units: units to stream; None if the solver has no choice.
        bound_s: no choice that is not excluded takes less; infinite if none fits.
    """

    units: frozenset[int] | None
    bound_s: float


def choose_streamed(
    tables: StreamTables,
    limits: Limits,
    time_limit_s: float,
    excluded: Iterable[Collection[int]] = (),
) -> StreamChoice:
    """Solve for the fastest set of units to stream that fits.

    Args:
        tables: of a memory plan.
        limits: memory.
        time_limit_s: seconds for the solver; a bound comes back in any case.
        excluded: sets that must not be answered.
    """
    program = _Program(tables)
    program.add_memory(limits)
    program.add_tasks()
    program.add_end()
    for units in excluded:
        program.exclude(units)
    return program.solve(time_limit_s)


class _Program:
    """The integer program; its unit of time is a small part of the step without loads."""

    def __init__(self, tables: StreamTables) -> None:
        self._tables = tables
        self._rows = IntegerRows()
        self._unit = {unit: self._rows.variable(whole=True) for unit in tables.units}
        self._bundle = [self._variable_of(bundle) for bundle in tables.bundles]
        self._load = {unit: self._load_terms(unit) for unit in tables.units}
        self._ends_s = _ends_without_loads(tables.tasks)
        self._scale = _TIME_PARTS / (self._ends_s[-1] or 1.0)
        self._late = [self._rows.variable(np.inf) for _ in tables.tasks]
        self._end = self._rows.variable(np.inf)
        h2d = [task for task in tables.tasks if task.stream is Stream.H2D]
        self._mixed = any(task.load < 0 for task in h2d)
        self._copies_s = sum(t.duration_s for t in tables.tasks if t.stream is not Stream.COMPUTE)
        self._copies_s += sum(sum(self._load[task.load].values()) for task in h2d if task.load >= 0)

    def add_memory(self, limits: Limits) -> None:
        """Add a row for every point, and one for the host."""
        tables = self._tables
        for point in tables.points:
            freed = [float(bundle.freed_bytes(point.present)) for bundle in tables.bundles]
            self._add_bytes(freed, point.num_bytes - limits.device_bytes)
        taken = [-float(bundle.host_bytes) for bundle in tables.bundles]
        self._add_bytes(taken, tables.host_bytes - limits.host_bytes)

    def add_tasks(self) -> None:
        """Add the rows of time of every task."""
        tasks = self._tables.tasks
        for index, task in enumerate(tasks):
            befores = {task.queue, *task.waits} - {-1}
            for before in befores:
                self._add_order(index, before)
                if before != task.queue and tasks[before].load >= 0:
                    self._add_window(index, before)
            if not befores:
                self._add_time({self._late[index]: 1.0}, self._negative_load(task), 0.0)

    def add_end(self) -> None:
        """Add the rows of what ends last."""
        for late, end_s in zip(self._late, self._ends_s, strict=True):
            self._add_time({self._end: 1.0, late: -1.0}, {}, end_s - self._ends_s[-1])
        bundles, rates = self._tables.bundles, self._tables.rates
        seconds = [bundle.returned_bytes / rates.h2d_bytes_per_s for bundle in bundles]
        returns = self._rows.variable()
        for bundle, variable in zip(bundles, self._bundle, strict=True):
            if bundle.returned_bytes:
                self._rows.at_least([(returns, 1.0), (variable, 1.0)], 1.0)
        streamed = dict(zip(self._bundle, seconds, strict=True))
        ends = {self._end: 1.0, self._late[-1]: -1.0}
        self._add_time(ends, {**streamed, returns: -rates.latency_s}, sum(seconds))

    def exclude(self, units: Collection[int]) -> None:
        """Refuse one set of units."""
        row = [(v, -1.0 if unit in units else 1.0) for unit, v in self._unit.items()]
        self._rows.at_least(row, 1.0 - len(units))

    def solve(self, time_limit_s: float) -> StreamChoice:
        """Minimise the end of the step."""
        answer = self._rows.minimise(self._end, time_limit_s)
        bound_s = (self._ends_s[-1] + answer.bound / self._scale) * (1 - _TOLERANCE)
        if answer.values is None:
            return StreamChoice(None, bound_s)
        values = answer.values
        chosen = (unit for unit, variable in self._unit.items() if values[variable] > _CHOSEN)
        return StreamChoice(frozenset(chosen), bound_s)

    # Variables

    def _variable_of(self, bundle: Bundle) -> int:
        """Whether a bundle is streamed: just when all of its units are."""
        units = [self._unit[unit] for unit in bundle.units]
        if len(units) == 1:
            return units[0]
        variable = self._rows.variable()
        for unit in units:
            self._rows.at_least([(unit, 1.0), (variable, -1.0)], 0.0)
        self._rows.at_least([(variable, 1.0), *((u, -1.0) for u in units)], 1.0 - len(units))
        return variable

    def _load_terms(self, unit: int) -> Mapping[int, float]:
        """Seconds of a unit's load by variable; the last one says whether it happens."""
        rates = self._tables.rates
        read = [
            (variable, bundle)
            for variable, bundle in zip(self._bundle, self._tables.bundles, strict=True)
            if unit in bundle.units and bundle.num_bytes
        ]
        terms = {v: bundle.num_bytes / rates.h2d_bytes_per_s for v, bundle in read}
        happens = self._unit[unit]
        if read and happens not in terms:
            happens = self._rows.variable()
            for variable, _ in read:
                self._rows.at_least([(happens, 1.0), (variable, -1.0)], 0.0)
        if read:
            terms[happens] = terms.pop(happens, 0.0) + rates.latency_s
        return terms

    # Rows

    def _add_bytes(self, factors: Sequence[float], least: float) -> None:
        """A row of bytes over the bundles, its largest factor as 1."""
        scale = max((abs(factor) for factor in factors), default=0.0) or 1.0
        terms = zip(self._bundle, factors, strict=True)
        self._rows.at_least([(v, f / scale) for v, f in terms if f], least / scale)

    def _add_time(
        self, lates: Mapping[int, float], seconds: Mapping[int, float], least_s: float
    ) -> None:
        """A row of lates, which count in the program's unit, and of variables that cost seconds."""
        terms: list[Term] = [*lates.items()]
        terms += [(variable, cost_s * self._scale) for variable, cost_s in seconds.items()]
        self._rows.at_least(terms, least_s * self._scale)

    def _add_order(self, index: int, before: int) -> None:
        """A task ends its own seconds after one before it, if that one happens."""
        task, earlier = self._tables.tasks[index], self._tables.tasks[before]
        lates = {self._late[index]: 1.0, self._late[before]: -1.0}
        seconds = dict(self._negative_load(task))
        gap_s = self._ends_s[before] + task.duration_s - self._ends_s[index]
        if self._mixed and before != task.queue and earlier.load >= 0 and self._load[earlier.load]:
            # Behind other copies, a load that does not happen must not hold its user up.
            happens = list(self._load[earlier.load])[-1]
            seconds[happens] = seconds.get(happens, 0.0) - self._copies_s
            gap_s -= self._copies_s
        self._add_time(lates, seconds, gap_s)

    def _add_window(self, index: int, load: int) -> None:
        """A load delays its user by what the tasks beside it do not cover."""
        tasks, unit = self._tables.tasks, self._tables.tasks[load].load
        if tasks[load].stream is not Stream.H2D or len(self._load[unit]) != 1:
            return
        ((variable, whole_s),) = self._load[unit].items()
        issued, beside_s, between = max(tasks[load].waits, default=-1), 0.0, tasks[index].queue
        while between > issued:
            beside_s += tasks[between].duration_s
            between = tasks[between].queue
        lates, start_s = {self._late[index]: 1.0}, 0.0
        if issued >= 0:
            lates[self._late[issued]] = -1.0
            start_s = self._ends_s[issued]
        gap_s = start_s + beside_s + tasks[index].duration_s - self._ends_s[index]
        self._add_time(lates, {variable: -max(0.0, whole_s - beside_s)}, gap_s)

    def _negative_load(self, task: Task) -> Mapping[int, float]:
        return {v: -cost_s for v, cost_s in self._load[task.load].items()} if task.load >= 0 else {}


def _ends_without_loads(tasks: Sequence[Task]) -> list[float]:
    """Seconds at which every task ends if no weights are loaded; a load ends where it could begin.

    Returns:
        ends.  # [num_tasks]
    """
    ends: list[float] = []
    for task in tasks:
        before = [ends[task.queue]] if task.queue >= 0 else [0.0]
        before += [ends[wait] for wait in task.waits if tasks[wait].load < 0]
        ends.append(max(before) + task.duration_s)
    return ends
