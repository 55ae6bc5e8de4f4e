"""What there is to learn: problems, what is known about them, and episodes that solve them well."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from remora.agents.heuristics.shapes import Shape
from remora.envs.plan_tables import PlanTables
from remora.errors import InvalidInputError

__all__ = ["Demonstration", "Explored", "Lesson", "Teaching"]


@dataclass(frozen=True)
class Lesson:
    """One problem under one budget.

    Attributes:
        tables: of the problem; its name is the lesson's.
        budget_bytes: memory of every device.
        shape_times: least step time known in seconds, by kind, ranks, chunks and micro-batches;
            a shape that is not there has no known plan.
    """

    tables: PlanTables
    budget_bytes: int
    shape_times: Mapping[Shape, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the problem."""
        return self.tables.name

    @property
    def best_s(self) -> float:
        """Least step time known; infinity where nothing is."""
        return min(self.shape_times.values(), default=math.inf)


@dataclass(frozen=True)
class Demonstration:
    """One episode to learn from.

    Attributes:
        lesson: name of the lesson.
        shape: of the pipeline that the plan has.
        actions: of the whole episode, settings first.
        step_time_s: of the plan.
        source: who found it.
    """

    lesson: str
    shape: Shape
    actions: tuple[int, ...]
    step_time_s: float
    source: str


@dataclass(frozen=True, eq=False)
class Explored:
    """An episode, and what its other actions would have brought.

    Attributes:
        episode: what was done.
        costs: log of the step time over that of keeping everything, had the policy gone on from
            that action; infinity for what was not tried.  # [T, A]
    """

    episode: Demonstration
    costs: NDArray[np.float64]


@dataclass(frozen=True)
class Teaching:
    """Lessons and the episodes that go with them.

    Attributes:
        lessons: each once.
        shown: what is learned from; the same episode is there once.
        explored: episodes of which every step is learned from what its actions lead to.

    Raises:
        InvalidInputError: two lessons have one name, or an episode belongs to none.
    """

    lessons: tuple[Lesson, ...]
    shown: tuple[Demonstration, ...] = ()
    explored: tuple[Explored, ...] = ()

    def __post_init__(self) -> None:
        names = [lesson.name for lesson in self.lessons]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInputError(f"two lessons are named {twice!r}; allowed: each name once")
        for demonstration in (*self.shown, *(one.episode for one in self.explored)):
            if demonstration.lesson not in names:
                raise InvalidInputError(
                    f"a demonstration is of lesson {demonstration.lesson!r}, which is not there; "
                    f"allowed: {', '.join(names)}"
                )

    def of(self, lesson: Lesson) -> tuple[Demonstration, ...]:
        """The episodes of one lesson."""
        return tuple(shown for shown in self.shown if shown.lesson == lesson.name)

    def with_more(self, found: Iterable[Demonstration]) -> Teaching:
        """Add episodes; what is known about the lessons follows from them."""
        known = {(shown.lesson, shown.actions) for shown in self.shown}
        added: list[Demonstration] = []
        for shown in found:
            if (shown.lesson, shown.actions) not in known:
                known.add((shown.lesson, shown.actions))
                added.append(shown)
        lessons = tuple(_informed(lesson, added) for lesson in self.lessons)
        return Teaching(lessons, (*self.shown, *added), self.explored)


def _informed(lesson: Lesson, found: Sequence[Demonstration]) -> Lesson:
    times = dict(lesson.shape_times)
    for shown in found:
        if shown.lesson == lesson.name:
            times[shown.shape] = min(times.get(shown.shape, math.inf), shown.step_time_s)
    return dataclasses.replace(lesson, shape_times=times)
