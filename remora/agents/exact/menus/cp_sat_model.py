"""One pipeline with its cuts as a constraint program over the options of its units.

The instructions of a program that copies whatever can be copied are the template: other options
change how long they take, and whether anything waits for a copy. So the time is that of the
simulator, rounded down to whole ticks. Solved by CP-SAT, which learns clauses from conflicts
(Ohrimenko, Stuckey and Codish 2009; Perron and Didier, OR-Tools).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remora.agents.exact.menus.cp_sat_tables import RankTable
from remora.agents.exact.menus.memory import MemoryRow, Sharers
from remora.agents.exact.menus.model import MenuChoices
from remora.agents.exact.menus.times import MenuTimes
from remora.errors import MissingExtraError
from remora.schedule.lowering import lower
from remora.schedule.program import Instruction, InstructionKind, Program, Stream
from remora.schedule.schedule import PipelinePlan

__all__ = ["Found", "PipelineModel"]

_COPIES = (InstructionKind.OFFLOAD, InstructionKind.PREFETCH)
_INSIDE_BACKWARD = (InstructionKind.RECOMPUTE, InstructionKind.RESTORE)
_TICKS = 2**33
"""Ticks that the whole step takes at most; fewer would make rounding visible."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the solver found.

    Attributes:
        chosen: index of every unit's choice; None if no plan was found.  # [num_units]
        bound_s: no plan that is left takes less; infinite if there is none.
        ended: whether the solver came to its end.
    """

    chosen: tuple[int, ...] | None
    bound_s: float
    ended: bool


class PipelineModel:
    """The program of one pipeline.

    Args:
        choices: what there is to choose, at the pipeline's number of micro-batches.
        times: their seconds.
        pipeline: with its cuts.
        pace: offload window and prefetch distance.
    """

    def __init__(
        self,
        choices: MenuChoices,
        times: MenuTimes,
        pipeline: PipelinePlan,
        pace: tuple[int, int],
    ) -> None:
        self._cp = _cp_model()
        self._choices, self._times = choices, times
        self._model = self._cp.CpModel()
        self._taken = [self._model.new_bool_var("") for _ in range(choices.num_columns)]
        self._moves: list[Any] = []
        self._held: dict[Sharers, Any] = {}
        for unit in range(len(choices.menus)):
            self._model.add_exactly_one(self._taken[c] for c in self._columns(unit))
            self._moves.append(self._moving(unit))
        program = lower(choices.problem, choices.schedule(self._most_copies(), *pace, pipeline))
        self._tick_s = (self._longest_s(program) or 1.0) / _TICKS
        self._end = self._model.new_int_var(0, _TICKS, "")
        self._add_instructions(program)
        self._model.minimize(self._end)

    def add_tables(self, tables: Sequence[RankTable]) -> None:
        """Keep every rank within its memory."""
        for table in tables:
            rows = [self._model.new_bool_var("") for _ in table.allowed]
            self._model.add_exactly_one(rows)
            for place, unit in enumerate(table.units):
                for index, column in enumerate(self._columns(unit)):
                    with_it = [
                        row
                        for row, allowed in zip(rows, table.allowed, strict=True)
                        if allowed[place] == index
                    ]
                    self._model.add(sum(with_it) == self._taken[column])

    def add_memory(self, rows: Sequence[MemoryRow]) -> None:
        """Keep one device within its memory; for pipelines of one rank."""
        problem = self._choices.problem
        for row in rows:
            level: Any = row.base_bytes
            for column, num_bytes in enumerate(row.column_bytes.tolist()):
                level += num_bytes * self._taken[column] if num_bytes else 0
            for sharers, num_bytes in row.shared_bytes.items():
                level += num_bytes * self._holding(sharers)
            self._model.add(level <= problem.budget_bytes)
        moved = zip(self._times.moved_bytes.tolist(), self._taken, strict=True)
        on_host = sum(num_bytes * taken for num_bytes, taken in moved)
        self._model.add(on_host <= problem.hardware.host.memory_bytes)

    def forbid(self, chosen: Sequence[int]) -> None:
        """Leave one plan out."""
        taken = [self._taken[column] for column in self._choices.columns_of(chosen)]
        self._model.add_bool_or(literal.negated() for literal in taken)

    def solve(self, limit_s: float, time_limit_s: float) -> Found:
        """Find the fastest plan that takes at most ``limit_s`` seconds.

        Args:
            limit_s: of the step; may be infinite.
            time_limit_s: for this run.
        """
        if limit_s < self._tick_s * _TICKS:
            self._model.add(self._end <= math.floor(limit_s / self._tick_s))
        solver = self._cp.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 0
        solver.parameters.max_time_in_seconds = time_limit_s
        status = solver.solve(self._model)
        if status == self._cp.INFEASIBLE:
            return Found(None, math.inf, True)
        bound_s = max(0.0, solver.best_objective_bound) * self._tick_s
        if status not in (self._cp.OPTIMAL, self._cp.FEASIBLE):
            return Found(None, bound_s, False)
        units = range(len(self._choices.menus))
        values = [[solver.value(self._taken[c]) for c in self._columns(unit)] for unit in units]
        chosen = tuple(row.index(1) for row in values)
        return Found(chosen, bound_s, status == self._cp.OPTIMAL)

    def _columns(self, unit: int) -> range:
        return range(*self._choices.first_columns[unit : unit + 2])

    def _moving(self, unit: int) -> Any:
        """Whether a unit copies anything; None if it cannot."""
        able = [c for c in self._columns(unit) if self._times.moved_bytes[c]]
        if not able:
            return None
        moves = self._model.new_bool_var("")
        self._model.add(sum(self._taken[c] for c in able) == moves)
        return moves

    def _most_copies(self) -> list[int]:
        """A choice of every unit that copies something, where there is one."""
        return [
            next((i for i, c in enumerate(self._columns(u)) if self._times.moved_bytes[c]), 0)
            for u in range(len(self._choices.menus))
        ]

    def _longest_s(self, program: Program) -> float:
        """More seconds than any plan takes."""
        most_s = 0.0
        for instruction in program.instructions:
            base_s, by_column = self._seconds(instruction)
            most_s += base_s + max(by_column.values(), default=0.0)
        return most_s

    def _seconds(self, instruction: Instruction) -> tuple[float, dict[int, float]]:
        """Seconds of an instruction whatever is chosen, and what each choice adds."""
        kind, times, chain = instruction.kind, self._times, self._choices.chain
        if kind in _INSIDE_BACKWARD:
            return 0.0, {}
        columns = self._columns(instruction.unit) if instruction.unit >= 0 else range(0)
        if kind is InstructionKind.OFFLOAD:
            return 0.0, {c: float(times.store_s[c]) for c in columns}
        if kind is InstructionKind.PREFETCH:
            return 0.0, {c: float(times.load_s[c]) for c in columns}
        if kind is InstructionKind.FORWARD:
            least_s = chain.units[instruction.unit].forward_s
            return least_s, {c: float(times.forward_s[c]) - least_s for c in columns}
        if kind in (InstructionKind.BACKWARD, InstructionKind.BACKWARD_INPUT):
            least_s = chain.units[instruction.unit].backward_s
            return instruction.duration_s, {
                c: float(times.backward_s[c]) - least_s for c in columns
            }
        return instruction.duration_s, {}

    def _add_instructions(self, program: Program) -> None:
        """An end for every instruction, after what it waits for and what its stream ran before."""
        ends: list[Any] = []
        latest: dict[tuple[int, Stream], int] = {}
        for instruction in program.instructions:
            end = self._model.new_int_var(0, _TICKS, "")
            base_s, by_column = self._seconds(instruction)
            ticks: Any = math.floor(base_s / self._tick_s)
            for column, seconds in by_column.items():
                ticks += math.floor(max(0.0, seconds) / self._tick_s) * self._taken[column]
            self._model.add(end >= ticks)
            queue = (instruction.rank, instruction.stream)
            before = [latest[queue]] if queue in latest else []
            for other in dict.fromkeys((*before, *instruction.waits)):
                constraint = self._model.add(end >= ends[other] + ticks)
                awaited = program.instructions[other]
                if awaited.kind in _COPIES and other not in before:
                    constraint.only_enforce_if(self._moves[awaited.unit])
            latest[queue] = len(ends)
            ends.append(end)
        for last in latest.values():
            self._model.add(self._end >= ends[last])

    def _holding(self, sharers: Sharers) -> Any:
        if sharers not in self._held:
            self._held[sharers] = held = self._model.new_bool_var("")
            for column in sorted(set().union(*sharers)):
                self._model.add_implication(self._taken[column], held)
        return self._held[sharers]


def _cp_model() -> Any:
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise MissingExtraError("ortools", "solvers", "scheduler 'cp_sat'") from error
    return cp_model
