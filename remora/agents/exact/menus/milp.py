"""Scheduler ``milp``: memory options of one device by mixed-integer linear programming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded, check_one_device
from remora.agents.exact.menus.milp_model import PacedModel
from remora.agents.exact.menus.model import menu_choices
from remora.agents.exact.menus.times import menu_times
from remora.agents.exact.solved import Solved
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.space import Space
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Milp", "milp_search", "solve"]

Pace = tuple[int, int]
"""Offload window and prefetch distance."""

PACES: tuple[Pace, ...] = ((8, 4), (12, 6), (4, 2), (2, 1))

# The last part of the time is left for replaying what was found.
_SOLVER_SHARE = 0.9
_LEAST_S = 0.01
# Times of the model and of the simulator differ in the last digits.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Milp:
    """The fastest plan in which every unit decides by itself, proven if there is time.

    The class of plans: one device, whole batch or the problem's fixed number of micro-batches,
    state on the device; every unit takes an option of its menu or is recomputed from inputs that
    wait on the host; no longer groups; one of the paces. Time and peak of all of them are rows of
    one program per pace, which is what checkpointing by linear programming does for single
    operators (Jain et al., "Checkmate", 2020; Zhao et al., "Rockmate", 2023) and here covers
    copies too. Where none of the class fits, the schedule of least memory that the heuristics know
    is the answer.

    Attributes:
        windows: offload windows, one per pace.
        distances: prefetch distances, one per pace.
        mixed: whether options may mix actions.
    """

    windows: Sequence[int] = tuple(window for window, _ in PACES)
    distances: Sequence[int] = tuple(distance for _, distance in PACES)
    mixed: bool = True

    one_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the paces."""
        for name, values in (("windows", self.windows), ("distances", self.distances)):
            if not values or any(value < 1 for value in values):
                raise InvalidInputError(
                    f"{name} is {list(values)}; allowed: integers from 1, at least one"
                )
        if len(self.windows) != len(self.distances):
            raise InvalidInputError(
                f"distances has {len(self.distances)} values; allowed: {len(self.windows)}, one "
                "for each of windows"
            )

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "milp"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Solve and replay; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        check_one_device(self.name, problem.world_size)
        paces = tuple(zip(self.windows, self.distances, strict=True))
        with suppress(SearchEnded):
            milp_search(evaluator, paces, self.mixed)
            if evaluator.best is None:
                find_fitting(Space(problem), evaluator)
        return evaluator.answer(self.name)


def solve(
    problem: Problem, time_limit_s: float, paces: Sequence[Pace] = PACES, mixed: bool = True
) -> Solved:
    """Find the fastest plan of the class of :class:`Milp`.

    Args:
        problem: of one device.
        time_limit_s: wall-clock seconds.
        paces: offload windows and prefetch distances to choose from.
        mixed: whether options may mix actions.

    Returns:
        the best plan found, and a bound of the class up to the solver's tolerance.

    Raises:
        InvalidInputError: the problem has several ranks, or the time limit is not positive.
        MissingExtraError: the solver is not installed.
    """
    evaluator = Evaluator(problem, time_limit_s)
    check_one_device("milp", problem.world_size)
    bound_s = milp_search(evaluator, paces, mixed)
    if evaluator.best is None:
        return Solved(None, math.inf, bound_s)
    step_time_s = _best_s(evaluator)
    return Solved(evaluator.best, step_time_s, min(bound_s, step_time_s))


def milp_search(evaluator: Evaluator, paces: Sequence[Pace], mixed: bool) -> float:
    """Score the plans that the programs find; returns a bound of the whole class in seconds.

    The first half of the time goes to all paces alike, the rest to those that are still open;
    what one finds, all that follow have to beat.
    """
    problem = evaluator.problem
    choices = menu_choices(problem, problem.micro_batches or 1, mixed)
    times = menu_times(choices)
    keep_all = choices.schedule([0] * len(choices.menus), *paces[0])
    kept = evaluator.score(keep_all)
    if kept.feasible:
        return kept.step_time_s
    paces = paces if times.moved_bytes.any() else paces[:1]
    models = [PacedModel(choices, times, *pace) for pace in paces]
    with suppress(SearchEnded):
        for share in (0.5, 1.0):
            still_open = [model for model in models if _is_open(evaluator, model)]
            for place, model in enumerate(still_open):
                left_s = evaluator.remaining_s * share / (len(still_open) - place)
                _solve_pace(evaluator, model, times.end_s, left_s)
    return max(kept.step_time_s, min(model.bound_s for model in models))


def _is_open(evaluator: Evaluator, model: PacedModel) -> bool:
    """Whether a faster plan may be found."""
    best_s = math.inf if evaluator.best is None else _best_s(evaluator)
    return not Solved(evaluator.best, best_s, model.bound_s).proven


def _solve_pace(evaluator: Evaluator, model: PacedModel, end_s: float, left_s: float) -> None:
    """Solve the program of one pace; plans whose replay differs from it are left out."""
    stop_s = evaluator.remaining_s - left_s
    count = model.choices.micro_batches
    while True:
        if evaluator.best is not None:
            model.at_most_s((_best_s(evaluator) - end_s) / count * (1 + _ROUNDING))
        left_s = evaluator.remaining_s - stop_s
        answer = model.program.solve(max(_LEAST_S, _SOLVER_SHARE * left_s))
        model.bound_s = max(model.bound_s, count * answer.bound * model.unit_s + end_s)
        if answer.values is None:
            return
        chosen = model.chosen(answer.values)
        schedule = model.choices.schedule(chosen, model.window, model.distance)
        if evaluator.score(schedule).feasible or evaluator.remaining_s <= stop_s:
            return
        # Rounding lets a plan through that is a few bytes too large.
        model.forbid(chosen)


def _best_s(evaluator: Evaluator) -> float:
    assert evaluator.best is not None
    return evaluator.score(evaluator.best).step_time_s
