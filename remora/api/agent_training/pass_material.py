"""What a policy for passes of inference learns from and is judged by.

Problems are drawn anew from their seed; what was found out about each lies in a file, so that a
stopped training does not ask twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from remora.agents.learned.imitation.demonstration_files import (
    read_demonstrations,
    write_demonstrations,
)
from remora.agents.learned.imitation.lesson import Demonstration, Lesson, Teaching
from remora.agents.learned.imitation.teachers import asked
from remora.agents.learned.selection import Validation, ValidationProblem
from remora.api.agent_training.config import LabelsConfig
from remora.api.joint_config import joint_config
from remora.api.joint_environment import draw_tables
from remora.envs.sampler import JointSampler

__all__ = ["pass_sampler", "pass_teaching", "pass_validation"]

Listener = Callable[[str, int, int], None]

_TEACHERS = ("pass_milp", "pass_search")

_DRAWN = 8
"""Plans that a policy draws for every validation problem."""


def pass_teaching(config: LabelsConfig, folder: Path, listener: Listener) -> Teaching:
    """Draw problems, and ask the schedulers of passes for plans of each.

    Args:
        config: which problems, and how long schedulers have.
        folder: where the plans are kept unless the configuration names another one.
        listener: told name, number done and number of all.

    Raises:
        UsageError: a file cannot be written or is broken, or a value is not allowed.
    """
    kept = folder if config.folder is None else Path(config.folder)
    lessons = _lessons(config)
    teaching = Teaching(lessons)
    for number, lesson in enumerate(lessons, start=1):
        teaching = teaching.with_more(_shown(lesson, config, kept))
        listener(lesson.name, number, len(lessons))
    return teaching


def pass_sampler(teaching: Teaching, env: str) -> JointSampler:
    """Draw episodes from the problems of lessons, under budgets of an environment."""
    budgets = joint_config(env).recipe.budgets
    return JointSampler([lesson.tables for lesson in teaching.lessons], budgets)


def pass_validation(teaching: Teaching) -> Validation:
    """Judge by the best plans that the schedulers found."""
    known = [lesson for lesson in teaching.lessons if teaching.of(lesson)]
    return Validation(
        [ValidationProblem(one.tables, one.budget_bytes, one.best_s) for one in known], _DRAWN
    )


def _lessons(config: LabelsConfig) -> tuple[Lesson, ...]:
    """Each under its drawn budget, or the least that an episode is sure to fit."""
    tables = draw_tables(joint_config(config.env), config.count, config.seed)
    return tuple(Lesson(one, max(one.problem.budget_bytes, one.least_bytes)) for one in tables)


def _shown(lesson: Lesson, config: LabelsConfig, folder: Path) -> Sequence[Demonstration]:
    """What the schedulers show, asked or read."""
    path = folder / f"{lesson.name}.json"
    if path.is_file():
        return read_demonstrations(path)
    one_device = lesson.tables.problem.world_size == 1
    limit_s = config.one_device_s if one_device else config.pipeline_s
    shown = asked(lesson, _TEACHERS, limit_s)
    write_demonstrations(path, shown)
    return shown
