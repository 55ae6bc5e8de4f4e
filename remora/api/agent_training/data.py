"""From labels to what a policy learns from and is judged by."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from remora.agents.heuristics.shapes import Shape
from remora.agents.learned.imitation.demonstration_files import (
    read_demonstrations,
    write_demonstrations,
)
from remora.agents.learned.imitation.lesson import Demonstration, Lesson, Teaching
from remora.agents.learned.imitation.teachers import Translation, tables_of, taught_by_labels
from remora.agents.learned.labels.label import Label, read_labels
from remora.agents.learned.selection import Validation, ValidationProblem
from remora.api.agent_training.config import LabelsConfig
from remora.api.joint_config import joint_config
from remora.api.policy_labels import make_policy_labels
from remora.envs.actions import OBSERVATION_VERSION
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["labels_of", "sampler_of", "teaching_of", "validation_of"]

Listener = Callable[[str, int, int], None]

_DRAWN = 8
"""Plans that a policy draws for every validation problem."""

EASY = math.log(1.01)
"""Problems on which greedy is so close to the best plan known are left out of episodes."""


def labels_of(config: LabelsConfig, folder: Path, listener: Listener | None = None) -> list[Label]:
    """Make the labels that are missing, and read all.

    Args:
        config: which.
        folder: where they are kept unless the configuration names another one.
        listener: told name, number done and number of all.

    Raises:
        UsageError: a file cannot be written or is broken, or a value is not allowed.
    """
    kept = Path(config.folder) if config.folder is not None else folder
    make_policy_labels(
        kept,
        config.count,
        config.env,
        config.seed,
        config.one_device_s,
        config.pipeline_s,
        config.workers,
        listener,
    )
    return read_labels(kept)


def teaching_of(labels: Sequence[Label], config: LabelsConfig) -> Teaching:
    """Turn the plans of labels into episodes; what was turned before is read from a file.

    Args:
        labels: one per problem.
        config: how plans become episodes.

    Raises:
        FileFormatError: the file or a label's graph is broken.
    """
    translation = Translation(config.refine_rounds, config.most_regret)
    path = labels[0].folder / f"episodes-{_digest(labels, translation)}.json"
    if not path.is_file():
        write_demonstrations(path, taught_by_labels(labels, translation).shown)
    return _taught_before(labels, read_demonstrations(path))


def _digest(labels: Sequence[Label], translation: Translation) -> str:
    names = [label.name for label in labels]
    text = json.dumps([OBSERVATION_VERSION, names, asdict(translation)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sampler_of(teaching: Teaching, labels: Sequence[Label], env: str) -> JointSampler:
    """Draw episodes from the problems that searches plan better than greedy does.

    Args:
        teaching: lessons with their tables.
        labels: of the same problems.
        env: configuration that says how budgets are drawn.
    """
    hard = {label.name for label in labels if math.log(label.greedy_s / label.best_s) > EASY}
    problems = [lesson.tables for lesson in teaching.lessons if lesson.name in hard]
    budgets = joint_config(env).recipe.budgets
    return JointSampler(problems or [lesson.tables for lesson in teaching.lessons], budgets)


def validation_of(labels: Sequence[Label]) -> Validation:
    """Judge by the problems of labels whose budget an episode is sure to fit.

    Raises:
        InvalidInputError: there is none.
    """
    problems = [
        ValidationProblem(tables, label.budget_bytes, label.best_s)
        for label in labels
        if (tables := tables_of(label)).least_bytes <= label.budget_bytes
    ]
    if not problems:
        raise InvalidInputError(
            "validation has no problem whose budget an episode is sure to fit; allowed: more "
            "problems, or larger budgets"
        )
    return Validation(problems, _DRAWN)


def _taught_before(labels: Sequence[Label], shown: Sequence[Demonstration]) -> Teaching:
    """What :func:`taught_by_labels` made of the same labels."""
    shapes: dict[str, set[Shape]] = {}
    for one in shown:
        shapes.setdefault(one.lesson, set()).add(one.shape)
    lessons = tuple(
        Lesson(
            tables_of(label),
            label.budget_bytes,
            {
                plan.shape: plan.step_time_s
                for plan in label.plans
                if plan.step_time_s is not None and plan.shape not in shapes[label.name]
            },
        )
        for label in labels
        if label.name in shapes
    )
    return Teaching(lessons).with_more(one for one in shown if one.lesson in shapes)
