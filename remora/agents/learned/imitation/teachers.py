"""Who demonstrates: the plans in labels, and schedulers that are asked for theirs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from remora.agents.candidates import run_member
from remora.agents.heuristics.shapes import Shape, shape_of
from remora.agents.learned.imitation.lesson import Demonstration, Lesson, Teaching
from remora.agents.learned.imitation.refine import refine
from remora.agents.learned.imitation.replay import Replayer
from remora.agents.learned.labels.label import Label
from remora.agents.registry import create
from remora.envs.problem_tables import ProblemTables
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = [
    "Translation",
    "asked",
    "lesson_of",
    "problem_of",
    "tables_of",
    "taught_by_labels",
    "translated",
]


@dataclass(frozen=True, slots=True)
class Translation:
    """How schedules become episodes.

    Attributes:
        rounds: of changes by which what is lost on the way is won back, at most; see
            :func:`.refine`.
        most_regret: log of the step time over that of the best episode from which on a plan is
            not worth one.
        seed: of the changes.
    """

    rounds: int = 120
    most_regret: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InvalidInputError(f"translation.rounds is {self.rounds}; allowed: 1 or more")
        if not self.most_regret >= 0:
            raise InvalidInputError(
                f"translation.most_regret is {self.most_regret}; allowed: 0 or more"
            )


def lesson_of(label: Label) -> Lesson:
    """What a label says about its problem; the step times of its plans come with these.

    Raises:
        InvalidInputError: the environment cannot plan the problem.
        FileFormatError: the label's graph is missing or broken.
    """
    return Lesson(tables_of(label), label.budget_bytes)


def tables_of(label: Label) -> ProblemTables:
    """Tables of a label's problem, with the pipelines that are likely to be fast at its budget.

    Raises:
        InvalidInputError, FileFormatError: as :func:`lesson_of`.
    """
    return ProblemTables(label.name, label.problem, focus_bytes=label.budget_bytes)


def problem_of(lesson: Lesson) -> Problem:
    """The problem of a lesson with its budget."""
    problem = lesson.tables.problem
    if problem.budget_bytes == lesson.budget_bytes:
        return problem
    return dataclasses.replace(problem, budget_bytes=lesson.budget_bytes)


def taught_by_labels(labels: Iterable[Label], translation: Translation | None = None) -> Teaching:
    """Turn the best plans of the shapes in labels, and greedy's, into demonstrations.

    Labels whose budget is too small for any episode are left out.

    Args:
        labels: one per problem.
        translation: how schedules become episodes.

    Raises:
        InvalidInputError: the environment cannot plan a problem, or two have the same name.
        FileFormatError: a label's graph is missing or broken.
    """
    translation = translation or Translation()
    lessons: list[Lesson] = []
    found: list[Demonstration] = []
    for label in labels:
        lesson, shown = _taught(label, translation)
        if shown:
            lessons.append(lesson)
            found += shown
    return Teaching(tuple(lessons)).with_more(found)


def _taught(label: Label, translation: Translation) -> tuple[Lesson, list[Demonstration]]:
    """The lesson of a label and its episodes.

    Shapes are translated in the order of the times that the search found, as long as those are
    not too far from what an episode has reached: what a shape loses in translation is known only
    afterwards. Of the other shapes the lesson has the times that the search found.
    """
    lesson = lesson_of(label)
    times: dict[Shape, float] = {}
    shown: list[Demonstration] = []
    for shape, schedule, step_time_s in [*_plans(label), (None, label.greedy, label.greedy_s)]:
        best_s = min((one.step_time_s for one in shown), default=math.inf)
        if step_time_s <= best_s * math.exp(translation.most_regret):
            shown += translated(lesson, [schedule], "label", translation)
        elif shape is not None:
            times[shape] = step_time_s
    return dataclasses.replace(lesson, shape_times=times), shown


def _plans(label: Label) -> list[tuple[Shape | None, Schedule, float]]:
    """Shape, plan and step time of every shape that a plan was found for, the fastest first."""
    return [
        (plan.shape, plan.schedule, plan.step_time_s)
        for plan in label.plans
        if plan.schedule is not None and plan.step_time_s is not None
    ]


def asked(
    lesson: Lesson,
    schedulers: Sequence[str],
    time_limit_s: float,
    translation: Translation | None = None,
) -> list[Demonstration]:
    """Ask schedulers for plans, for example the exact program of recompute-only chains.

    Args:
        lesson: whose problem they plan.
        schedulers: names in the registry; one that finds nothing shows nothing.
        time_limit_s: for each of them.
        translation: how schedules become episodes.

    Raises:
        UnknownNameError: there is no scheduler of that name.
        InvalidInputError: a scheduler cannot plan the problem's ranks.
    """
    problem, translation = problem_of(lesson), translation or Translation()
    found: list[Demonstration] = []
    for name in schedulers:
        candidate = run_member(create(name), problem, time_limit_s)
        if candidate.schedule is not None and candidate.feasible:
            found += translated(lesson, [candidate.schedule], name, translation)
    return found


def translated(
    lesson: Lesson,
    schedules: Iterable[Schedule],
    source: str,
    translation: Translation,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Demonstration]:
    """Turn schedules into episodes; none where no episode is sure to fit the budget.

    Args:
        lesson: whose problem they plan.
        schedules: valid ones.
        source: who found them.
        translation: how.
        stop: from when on nothing is won back, for example when a time is over.
    """
    replayer = Replayer(lesson.tables, lesson.budget_bytes)
    generator = np.random.default_rng(translation.seed)
    for schedule in schedules:
        replay = replayer.replay(schedule)
        if replay is None:
            return
        if replay.schedule != schedule:
            replay = refine(replayer, replay, translation.rounds, generator, stop)
        shape = shape_of(replay.schedule.pipeline)
        yield Demonstration(lesson.name, shape, replay.actions, replay.step_time_s, source)
