"""Scheduler ``cp_sat``: pipeline, cuts and options together, for small problems."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.exact.menus.cp_sat_model import PipelineModel
from remora.agents.exact.menus.cp_sat_shapes import CutPipelines, cut_pipelines
from remora.agents.exact.menus.cp_sat_tables import rank_tables
from remora.agents.exact.menus.memory import memory_rows
from remora.agents.exact.menus.model import MenuChoices, menu_choices
from remora.agents.exact.menus.times import MenuTimes, menu_times
from remora.agents.exact.solved import Solved
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.space import Space
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule

__all__ = ["CpSat", "cp_sat_search", "solve"]

# A plan has to be faster by this share to count as faster; rounding is finer.
_BETTER = 5e-7
_LEAST_S = 0.05
_FALLBACK_SHARE = 0.1


@dataclass(frozen=True)
class CpSat:
    """The fastest pipeline with options of single units, proven on small problems.

    The class of plans: any kind, number of ranks and chunks, cuts and micro-batches that the
    problem allows (at most four chunks); every unit takes an option of its menu or is recomputed
    from inputs that wait on the host; no longer groups, one pace, state on the device.
    Pipelines are taken in order of the time that they take if everything is kept, which no option
    makes shorter; the first that takes longer than the best plan ends the search. Where memory is
    short of that, one constraint program per pipeline chooses the options. This is branch and
    bound (Land and Doig 1960) over pipelines around constraint programming.

    Large problems are only searched in part: shapes with too many ways to be cut have balanced
    stages, and pipelines with a rank whose options have too many combinations are left out.

    Attributes:
        mixed: whether options may mix actions.
        window: offload window.
        distance: prefetch distance.
        most_cuts: pipelines that are looked at, balanced ones not counted.
        most_options: combinations of options of one rank that are all looked at.
    """

    mixed: bool = False
    window: int = 2
    distance: int = 1
    most_cuts: int = 2000
    most_options: int = 4096

    def __post_init__(self) -> None:
        """Check the limits."""
        for name in ("window", "distance", "most_cuts", "most_options"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; allowed: 1 or more")

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "cp_sat"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Solve and replay; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        with suppress(SearchEnded):
            pipelines = cut_pipelines(problem, self.most_cuts)
            cp_sat_search(evaluator, pipelines, self, _FALLBACK_SHARE * time_limit_s)
            if evaluator.best is None:
                find_fitting(Space(problem), evaluator)
        return evaluator.answer(self.name)


def solve(problem: Problem, time_limit_s: float, settings: CpSat | None = None) -> Solved:
    """Find the fastest plan of the class of :class:`CpSat`.

    Args:
        problem: to plan.
        time_limit_s: wall-clock seconds.
        settings: of the class and the search; the defaults if not given.

    Raises:
        InvalidInputError: the time limit is not positive.
        MissingExtraError: the solver is not installed.
    """
    evaluator = Evaluator(problem, time_limit_s)
    settings = settings or CpSat()
    pipelines = cut_pipelines(problem, settings.most_cuts)
    bound_s = min(pipelines.others_s(), cp_sat_search(evaluator, pipelines, settings, 0.0))
    if evaluator.best is None:
        return Solved(None, math.inf, bound_s)
    step_time_s = _best_s(evaluator)
    return Solved(evaluator.best, step_time_s, min(bound_s, step_time_s))


def cp_sat_search(
    evaluator: Evaluator, pipelines: CutPipelines, settings: CpSat, reserve_s: float
) -> float:
    """Score the plans that the programs find; returns a bound of all of them in seconds.

    Args:
        evaluator: of the problem.
        pipelines: to choose from.
        settings: of the class.
        reserve_s: seconds that are left for something else at the end.
    """
    search = _Search(evaluator, settings, reserve_s)
    bound_s = math.inf
    for kept_s, pipeline in pipelines.plans:
        if kept_s >= search.limit_s:
            break
        if search.left_s <= _LEAST_S:
            return min(bound_s, kept_s)
        try:
            bound_s = min(bound_s, max(kept_s, search.run(pipeline)))
        except SearchEnded:
            return min(bound_s, kept_s)
    return min(bound_s, search.limit_s)


class _Search:
    """One program after the other."""

    def __init__(self, evaluator: Evaluator, settings: CpSat, reserve_s: float) -> None:
        self._evaluator = evaluator
        self._settings = settings
        self._pace = settings.window, settings.distance
        self._reserve_s = reserve_s
        self._choices: dict[int, tuple[MenuChoices, MenuTimes]] = {}

    @property
    def left_s(self) -> float:
        """Seconds of the search."""
        return self._evaluator.remaining_s - self._reserve_s

    @property
    def limit_s(self) -> float:
        """Step time below which a plan is faster than the best one."""
        if self._evaluator.best is None:
            return math.inf
        return _best_s(self._evaluator) * (1 - _BETTER)

    def run(self, pipeline: PipelinePlan) -> float:
        """Find the fastest plan of one pipeline; returns its bound in seconds.

        Plans that are not faster than the best one count as if there were none.
        """
        choices, times = self._of(pipeline.micro_batches)
        kept = choices.schedule([0] * len(choices.menus), *self._pace, pipeline)
        if self._evaluator.score(kept).feasible:
            return math.inf
        model = self._model(choices, times, pipeline)
        if model is None:
            return 0.0
        while True:
            found = model.solve(self.limit_s, max(_LEAST_S, self.left_s))
            if found.chosen is None:
                return found.bound_s
            schedule = choices.schedule(found.chosen, *self._pace, pipeline)
            if self._evaluator.score(schedule).feasible:
                return math.inf if found.ended else found.bound_s
            model.forbid(found.chosen)

    def _of(self, micro_batches: int) -> tuple[MenuChoices, MenuTimes]:
        if micro_batches not in self._choices:
            problem, mixed = self._evaluator.problem, self._settings.mixed
            choices = menu_choices(problem, micro_batches, mixed)
            self._choices[micro_batches] = choices, menu_times(choices)
        return self._choices[micro_batches]

    def _model(
        self, choices: MenuChoices, times: MenuTimes, pipeline: PipelinePlan
    ) -> PipelineModel | None:
        """The program with its memory; None if there are too many combinations."""
        if pipeline.kind is PipelineKind.NONE:
            model = PipelineModel(choices, times, pipeline, self._pace)
            model.add_memory(memory_rows(choices, *self._pace))
            return model
        tables = rank_tables(choices, pipeline, self._pace, self._settings.most_options)
        if tables is None:
            return None
        model = PipelineModel(choices, times, pipeline, self._pace)
        model.add_tables(tables)
        return model


def _best_s(evaluator: Evaluator) -> float:
    assert evaluator.best is not None
    return evaluator.score(evaluator.best).step_time_s
