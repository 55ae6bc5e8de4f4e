"""Small lessons, and episodes that were played at random or found by a greedy search."""

from __future__ import annotations

import numpy as np

from remora.agents.heuristics.shapes import shape_of
from remora.agents.learned.imitation.lesson import Demonstration, Lesson, Teaching
from remora.agents.learned.imitation.replay import Replayer
from remora.agents.learned.imitation.teachers import asked
from remora.schedule.schedule import Schedule
from tests.envs.pipeline_problems import pipelines_of
from tests.envs.problems import random_action, tables_of

NAMES = ("toy", "gpt2_tiny", "unet_tiny")


def lesson_at(name: str, share: float = 0.3) -> Lesson:
    """A problem of one device, or with a number of ranks after its name, of pipelines."""
    model, _, ranks = name.partition("/")
    tables = pipelines_of(model, int(ranks)) if ranks else tables_of(model)
    return Lesson(tables, tables.budget_bytes(share))


def random_episode(
    lesson: Lesson, generator: np.random.Generator
) -> tuple[tuple[int, ...], Schedule]:
    batch = Replayer(lesson.tables, lesson.budget_bytes).batch(1)
    actions = []
    while batch.masks.any():
        actions.append(random_action(batch, generator))
        batch.step(np.array(actions[-1:]))
    return tuple(actions), batch.schedule(0)


def random_demonstration(lesson: Lesson, seed: int = 0) -> Demonstration:
    actions, schedule = random_episode(lesson, np.random.default_rng(seed))
    step_time_s = lesson.tables.step_time_s(schedule)
    shape = shape_of(schedule.pipeline)
    return Demonstration(lesson.name, shape, actions, step_time_s, "random")


def taught(*names: str, share: float = 0.3) -> Teaching:
    """One lesson for each name, with a greedy plan of it."""
    lessons = tuple(lesson_at(name, share) for name in names)
    found = [one for lesson in lessons for one in asked(lesson, ("greedy_variants",), 5.0)]
    return Teaching(lessons).with_more(found)
