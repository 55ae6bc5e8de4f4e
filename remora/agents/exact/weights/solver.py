"""The best streamed units for one memory plan: rules, single changes, then the integer program."""

from __future__ import annotations

import math

from remora.agents.evaluation import Evaluator
from remora.agents.exact.solved import Solved
from remora.agents.exact.weights.choices import flip_units, simple_choices
from remora.agents.exact.weights.program import Limits, choose_streamed
from remora.agents.exact.weights.reading import stream_tables
from remora.agents.exact.weights.states import host_gradients
from remora.agents.exact.weights.tables import StreamTables
from remora.schedule.schedule import Schedule

__all__ = ["limits_of", "solve_streaming"]

# Answers of the solver that may turn out not to fit, by a few bytes, before the search is given up.
_MAX_ANSWERS = 20


def solve_streaming(evaluator: Evaluator, schedule: Schedule, time_limit_s: float) -> Solved:
    """Choose which units' weights to stream, and where gradients live, beside a memory plan.

    The class that the answer is the best of: one device, the optimizer on the host, the memory
    plan and micro-batches of ``schedule``, any set of streamed units, gradients on either side.

    Args:
        evaluator: simulates every choice before it counts.
        schedule: its state is replaced.
        time_limit_s: seconds for the integer program, for each place of the gradients.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    parts = []
    for gradients in host_gradients(evaluator.problem):
        tables = stream_tables(evaluator.problem, schedule, gradients)
        parts.append(_OnePlace(evaluator, tables).solve(time_limit_s))
    if not parts:
        return Solved(None, math.inf, math.inf)
    fastest = min(parts, key=lambda part: part.step_time_s)
    bound_s = min(part.bound_s for part in parts)
    return Solved(fastest.schedule, fastest.step_time_s, bound_s)


def limits_of(evaluator: Evaluator) -> Limits:
    """The memory of the evaluator's problem."""
    problem = evaluator.problem
    return Limits(problem.budget_bytes, problem.hardware.host.memory_bytes)


class _OnePlace:
    """The search with gradients on one side."""

    def __init__(self, evaluator: Evaluator, tables: StreamTables) -> None:
        self._evaluator = evaluator
        self._tables = tables
        self._limits = limits_of(evaluator)
        self._schedule: Schedule | None = None
        self._step_time_s = math.inf

    def solve(self, time_limit_s: float) -> Solved:
        """Search by rules, then close the gap."""
        for units in simple_choices(self._tables, self._limits):
            self._note(flip_units(self._evaluator, self._tables, units))
        bound_s = self._close(self._evaluator.remaining_s - time_limit_s)
        return Solved(self._schedule, self._step_time_s, bound_s)

    def _close(self, until_s: float) -> float:
        """Ask the program until its bound meets the best plan; returns the bound.

        Its sizes are rounded, so an answer may be over the budget by a few bytes: then that one is
        excluded and the program asked again.

        Args:
            until_s: seconds that the evaluator has left in the end.
        """
        excluded: list[frozenset[int]] = []
        bound_s = 0.0
        while len(excluded) < _MAX_ANSWERS:
            left_s = self._evaluator.remaining_s - max(0.0, until_s)
            choice = choose_streamed(self._tables, self._limits, left_s, excluded)
            bound_s = max(bound_s, choice.bound_s)
            if choice.units is not None:
                self._note(choice.units)
            best = Solved(self._schedule, self._step_time_s, min(bound_s, self._step_time_s))
            if best.proven or choice.units is None or left_s <= 0:
                break
            excluded.append(choice.units)
        return min(bound_s, self._step_time_s)

    def _note(self, units: frozenset[int]) -> None:
        schedule = self._tables.with_streamed(units)
        score = self._evaluator.score(schedule)
        if score.feasible and score.step_time_s < self._step_time_s:
            self._schedule, self._step_time_s = schedule, score.step_time_s
