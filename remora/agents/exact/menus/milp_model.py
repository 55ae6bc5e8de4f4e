"""The plans of a menu at one pace of host copies as a mixed-integer linear program.

A binary per unit and choice; the objective is the time of one micro-batch. Rows of memory are
those of ``menu_model_memory``, rows of time the order in which the simulator runs instructions,
with a column for the end of each of them. Both are exact, up to the tolerance of the solver.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from remora.agents.exact.menus.memory import MemoryRow, Sharers, memory_rows
from remora.agents.exact.menus.milp_solver import MixedProgram, Term
from remora.agents.exact.menus.model import MenuChoices
from remora.agents.exact.menus.times import FloatArray, MenuTimes

__all__ = ["PacedModel"]


class PacedModel:
    """The program of one pace.

    Args:
        choices: what there is to choose.
        times: their seconds.
        window: offload window.
        distance: prefetch distance.

    Attributes:
        bound_s: no plan takes less; what was found out so far.
        unit_s: seconds that count as 1 in the program.
    """

    def __init__(self, choices: MenuChoices, times: MenuTimes, window: int, distance: int) -> None:
        self.choices = choices
        self.window, self.distance = window, distance
        self.bound_s = 0.0
        self._times = times
        firsts = choices.first_columns[:-1]
        keep_s = times.forward_s + times.backward_s
        self.unit_s = float(keep_s[list(firsts)].sum()) or 1.0
        self.program = MixedProgram()
        # Binaries come first, so that they have the columns of the choices.
        inline = not times.overlap
        costs = times.total_s / self.unit_s if inline else np.zeros(choices.num_columns)
        for cost in costs.tolist():
            self.program.binary(cost)
        self._objective: list[Term] = list(enumerate(costs.tolist()))
        self._add_choices()
        if not inline:
            self._add_times()
        self._shared: dict[Sharers, int] = {}
        for row in memory_rows(choices, window, distance):
            self._add_memory(row)
        self._add_host()

    def chosen(self, values: Sequence[float]) -> tuple[int, ...]:
        """The plan that a solution stands for: index of every unit's choice.  # [num_units]."""
        spans = itertools.pairwise(self.choices.first_columns)
        return tuple(int(np.argmax(values[start:end])) for start, end in spans)

    def forbid(self, chosen: Sequence[int]) -> None:
        """Leave one plan out."""
        columns = self.choices.columns_of(chosen)
        self.program.at_most([(column, 1.0) for column in columns], len(columns) - 1.0)

    def at_most_s(self, seconds: float) -> None:
        """Leave out plans whose micro-batch takes longer."""
        self.program.at_most(self._objective, seconds / self.unit_s)

    def _columns(self, unit: int) -> range:
        return range(*self.choices.first_columns[unit : unit + 2])

    def _add_choices(self) -> None:
        for unit in range(len(self.choices.menus)):
            self.program.exactly([(column, 1.0) for column in self._columns(unit)], 1.0)

    def _add_times(self) -> None:
        """The longest way through forwards, stores, loads and backwards."""
        times, program = self._times, self.program
        last = len(self.choices.menus) - 1
        units = range(last + 1)
        forward = [program.continuous() for _ in units]
        store = [program.continuous() for _ in units]
        load = [program.continuous() for _ in units]
        backward = [program.continuous(cost=float(unit == 0)) for unit in units]
        self._objective = [(backward[0], 1.0)]
        for unit in units:
            before: list[int | None] = [forward[unit - 1]] if unit else [None]
            before += [store[unit - self.window]] if unit >= self.window else []
            self._after(before, forward[unit], times.forward_s, unit)
            before = [forward[unit], *([store[unit - 1]] if unit else [])]
            self._after(before, store[unit], times.store_s, unit)
            late = unit + self.distance >= last
            before = [store[-1] if late else backward[unit + self.distance + 1]]
            before += [load[unit + 1]] if unit < last else []
            self._after(before, load[unit], times.load_s, unit)
            before = [load[unit], backward[unit + 1] if unit < last else store[-1]]
            self._after(before, backward[unit], times.backward_s, unit)

    def _after(
        self, before: Iterable[int | None], end: int, seconds: FloatArray, unit: int
    ) -> None:
        """An instruction of a unit ends its own time after each of some others."""
        own = [(c, float(seconds[c]) / self.unit_s) for c in self._columns(unit)]
        for other in before:
            started = [] if other is None else [(other, 1.0)]
            self.program.at_most([*started, *own, (end, -1.0)], 0.0)

    def _add_memory(self, row: MemoryRow) -> None:
        """Add a row if some plan may break it."""
        free = self.choices.problem.budget_bytes - row.base_bytes
        units = range(len(self.choices.menus))
        most = sum(int(row.column_bytes[list(self._columns(unit))].max()) for unit in units)
        if most + sum(row.shared_bytes.values()) > free:
            terms = [(int(c), float(row.column_bytes[c])) for c in np.flatnonzero(row.column_bytes)]
            terms += [(self._held(key), float(n)) for key, n in row.shared_bytes.items()]
            self.program.at_most(terms, float(free))

    def _held(self, sharers: Sharers) -> int:
        """The column that is 1 if some unit holds a storage."""
        if sharers not in self._shared:
            self._shared[sharers] = held = self.program.continuous(upper=1.0)
            for group in sharers:
                self.program.at_most([*((c, 1.0) for c in sorted(group)), (held, -1.0)], 0.0)
        return self._shared[sharers]

    def _add_host(self) -> None:
        """Everything moved is on the host when the backward begins."""
        moved = self._times.moved_bytes
        terms = [(int(column), float(moved[column])) for column in np.flatnonzero(moved)]
        if terms:
            self.program.at_most(terms, float(self.choices.problem.hardware.host.memory_bytes))
