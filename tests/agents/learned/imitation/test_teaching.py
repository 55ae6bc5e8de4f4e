"""What is taught: labels and schedulers become episodes, shapes get probabilities by regret."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from remora.agents.heuristics.shapes import Shape
from remora.agents.learned.imitation.demonstration_files import (
    read_demonstrations,
    write_demonstrations,
)
from remora.agents.learned.imitation.lesson import Teaching
from remora.agents.learned.imitation.shape_targets import shape_target
from remora.agents.learned.imitation.teachers import (
    Translation,
    asked,
    taught_by_labels,
)
from remora.agents.learned.labels.label import read_labels
from remora.agents.learned.labels.making import make_labels
from remora.envs.actions import KINDS, NUM_ACTIONS, OBSERVATION_VERSION, Phase
from remora.errors import FileFormatError, InvalidInputError
from remora.schedule.schedule import PipelineKind
from tests.agents.learned.imitation.lessons import lesson_at, random_demonstration, taught
from tests.agents.learned.test_labels import ALONE, FAST, source

TEMPERATURE = 0.02
ALL = np.ones(NUM_ACTIONS, dtype=np.bool_)
F1B, GPIPE = PipelineKind.ONE_F_ONE_B, PipelineKind.GPIPE


def _tables(world_size: int, *counts: int) -> Any:
    """All that probabilities of shapes need to know of a problem."""
    sizes = tuple(ranks for ranks in range(world_size, 0, -1) if world_size % ranks == 0)
    return SimpleNamespace(
        problem=SimpleNamespace(pipeline_sizes=sizes),
        rank_choices=sizes,
        micro_batches=counts,
    )


def test_shapes_are_as_likely_as_their_regret_says() -> None:
    best, times = (
        Shape(F1B, 4, 1, 8),
        {
            Shape(F1B, 4, 1, 8): 1.0,
            Shape(F1B, 4, 1, 16): 1.02,
            Shape(GPIPE, 4, 1, 8): 1.04,
            Shape(GPIPE, 2, 1, 8): 1.01,
        },
    )
    tables = _tables(4, 8, 16)
    ranks = shape_target(tables, times, best, Phase.RANKS, ALL, TEMPERATURE)
    kinds = shape_target(tables, times, best, Phase.KIND, ALL, TEMPERATURE)
    counts = shape_target(tables, times, best, Phase.MICRO_BATCHES, ALL, TEMPERATURE)
    assert ranks is not None
    assert kinds is not None
    assert counts is not None
    assert np.flatnonzero(ranks).tolist() == [0, 1]
    assert ranks[1] / ranks[0] == pytest.approx(math.exp(-math.log(1.01) / TEMPERATURE), rel=1e-5)
    assert np.flatnonzero(kinds).tolist() == [KINDS.index((GPIPE, 1)), KINDS.index((F1B, 1))]
    assert kinds[1] / kinds[2] == pytest.approx(math.exp(-math.log(1.04) / TEMPERATURE), rel=1e-5)
    assert np.flatnonzero(counts).tolist() == [0, 1]
    assert counts.sum() == pytest.approx(1.0)


def test_probabilities_go_to_what_is_allowed_and_known() -> None:
    times = {Shape(F1B, 4, 1, 8): 1.0, Shape(F1B, 2, 1, 8): 2.0}
    tables, shape = _tables(4, 8), Shape(F1B, 4, 1, 8)
    mask = ALL.copy()
    mask[0] = False
    only = shape_target(tables, times, shape, Phase.RANKS, mask, TEMPERATURE)
    assert only is not None
    assert only[1] == pytest.approx(1.0)
    other = Shape(F1B, 1, 1, 8)
    assert shape_target(tables, times, other, Phase.KIND, ALL, TEMPERATURE) is None


def test_labels_become_lessons_with_episodes(tmp_path: Path) -> None:
    make_labels(tmp_path, [ALONE], source, FAST)
    (label,) = read_labels(tmp_path)
    teaching = taught_by_labels([label], Translation(rounds=20))
    (lesson,) = teaching.lessons
    assert (lesson.name, lesson.budget_bytes) == (label.name, label.budget_bytes)
    assert teaching.of(lesson) == teaching.shown
    assert teaching.shown
    assert min(one.step_time_s for one in teaching.shown) == lesson.best_s
    assert lesson.best_s == pytest.approx(label.best_s, rel=0.2)
    assert set(lesson.shape_times) == {
        plan.shape for plan in label.plans if plan.step_time_s is not None
    }


def test_the_exact_program_of_recompute_only_chains_demonstrates() -> None:
    lesson = lesson_at("gpt2_tiny", 0.2)
    (one,) = asked(lesson, ("rotor",), 5.0)
    assert (one.source, one.lesson) == ("rotor", lesson.name)
    assert one.step_time_s > 0


def test_the_same_episode_is_learned_from_once_and_times_only_fall() -> None:
    lesson = lesson_at("toy")
    one = random_demonstration(lesson)
    teaching = Teaching((lesson,)).with_more([one, one]).with_more([one])
    assert teaching.shown == (one,)
    assert teaching.lessons[0].best_s == one.step_time_s
    slower = dataclasses.replace(one, actions=(0,), step_time_s=2 * one.step_time_s)
    assert teaching.with_more([slower]).lessons[0].best_s == one.step_time_s
    assert math.isinf(lesson.best_s)


def test_lessons_are_named_once_and_demonstrations_belong_to_one() -> None:
    lesson, one = lesson_at("toy"), random_demonstration(lesson_at("gpt2_tiny"))
    with pytest.raises(InvalidInputError, match="two lessons are named 'toy/adamw'"):
        Teaching((lesson, lesson))
    with pytest.raises(InvalidInputError, match="'gpt2_tiny/adamw', which is not there"):
        Teaching((lesson,), (one,))


def test_demonstrations_are_read_as_they_were_written(tmp_path: Path) -> None:
    shown = taught("toy").shown
    path = tmp_path / "shown.json"
    write_demonstrations(path, shown)
    assert read_demonstrations(path) == shown
    text = path.read_text()
    for broken, message in (
        (text[:40], "cut short"),
        (text.replace(f'"version":{OBSERVATION_VERSION}', '"version":99'), "version"),
        (text.replace('"none"', '"nothing"'), "garbles a demonstration"),
        (text.replace('"actions":[', '"actions":[77,'), "allowed: 0 to"),
    ):
        assert broken != text
        path.write_text(broken)
        with pytest.raises(FileFormatError, match=message):
            read_demonstrations(path)


def test_values_of_translations_are_checked() -> None:
    with pytest.raises(InvalidInputError, match=r"translation\.rounds is 0; allowed: 1 or more"):
        Translation(rounds=0)
    with pytest.raises(InvalidInputError, match=r"translation\.most_regret is -1"):
        Translation(most_regret=-1)
