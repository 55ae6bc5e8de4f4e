"""Behaviour cloning: it learns what is shown, the same for the same seed and after a stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from remora.agents.heuristics.shapes import shape_of
from remora.agents.learned.decoding import Decoder
from remora.agents.learned.imitation.cloning import (
    CHECKPOINT_NAME,
    CloningConfig,
    clone_policy,
    mean_loss,
)
from remora.agents.learned.imitation.lesson import Demonstration, Teaching
from remora.agents.learned.imitation.loss import cloning_loss
from remora.agents.learned.imitation.recorder import Emphasis, record
from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.selection import Validation, ValidationProblem
from remora.errors import FileFormatError, InvalidInputError
from remora.tracking.none_tracker import NoneTracker
from tests.agents.learned.imitation.lessons import (
    NAMES,
    lesson_at,
    random_demonstration,
    taught,
)
from tests.agents.learned.policies import SMALL, opinionated, untrained, without_preferences

SHORT = CloningConfig(
    epochs=4, episodes_per_batch=2, learning_rate=1e-2, validate_every=2, network=SMALL
)


class _Stopped(Exception):  # noqa: N818 - no error of the training
    pass


class _Recorder(NoneTracker):
    """Keeps what is logged; stops the training as a kill would, after so many epochs."""

    def __init__(self, epochs: int | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self._epochs = epochs

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.rows.append(dict(metrics))
        if step == self._epochs:
            raise _Stopped


def _validation(teaching: Teaching) -> Validation:
    return Validation(
        [
            ValidationProblem(lesson.tables, lesson.budget_bytes, lesson.best_s)
            for lesson in teaching.lessons
        ]
    )


def _clone(
    folder: Path,
    teaching: Teaching,
    config: CloningConfig = SHORT,
    tracker: NoneTracker | None = None,
    resume: bool = False,
    start: PlanNetwork | None = None,
) -> PlanNetwork:
    tracker = tracker or NoneTracker()
    validation = _validation(teaching)
    return clone_policy(teaching, validation, config, folder, tracker, start, resume=resume).network


def _same(first: PlanNetwork, second: PlanNetwork) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", [*NAMES, "toy/2", "unet_tiny/4"])
def test_whole_episodes_at_once_are_judged_as_step_by_step(name: str) -> None:
    lesson, network = lesson_at(name), opinionated()
    decoder = Decoder(network, lesson.tables, lesson.budget_bytes)
    plan = decoder.samples(1, np.random.default_rng(3))[0]
    shape = shape_of(plan.schedule.pipeline)
    one = Demonstration(lesson.name, shape, plan.actions, plan.step_time_s, "policy")
    recordings = record(Teaching((lesson,)).with_more([one]), Emphasis(shape_weight=1.0))
    with torch.no_grad():
        loss = cloning_loss(network, recordings.take([0]))
    assert loss.steps == len(plan.actions) == loss.weight
    assert loss.steps * float(loss.decisions) == pytest.approx(-plan.log_probability, rel=1e-4)


def test_minibatches_of_several_graphs_are_judged_as_one_by_one() -> None:
    lessons, network = tuple(map(lesson_at, NAMES)), opinionated()
    shown = [random_demonstration(lesson, seed) for lesson in lessons for seed in range(2)]
    recordings = record(Teaching(lessons).with_more(shown), Emphasis(regret=1.0))
    assert len(recordings) == len(shown)
    together = mean_loss(network, recordings, len(shown))
    assert together == pytest.approx(mean_loss(network, recordings, 1), rel=1e-4)


def test_returns_say_what_a_plan_is_worth_and_slow_plans_count_less() -> None:
    lesson = lesson_at("toy")
    shown = [random_demonstration(lesson, seed) for seed in range(6)]
    teaching = Teaching((lesson,)).with_more(shown)
    emphasis = Emphasis(regret=1.0, shape_weight=1.0)
    recordings = record(teaching, emphasis)
    for episode, one in enumerate(shown):
        batch = recordings.take([episode])
        cost = np.log(one.step_time_s / lesson.tables.keep_all_s)
        assert float(batch.returns[0]) == pytest.approx(-cost, abs=1e-5)
        regret = np.log(one.step_time_s / teaching.lessons[0].best_s)
        assert float(batch.weights[-1]) == pytest.approx(np.exp(-regret), rel=1e-4)
    strict = record(teaching, Emphasis(regret=1e-4))
    assert 1 <= len(strict) < len(recordings) == len(shown)


def test_demonstrations_that_do_what_they_must_not_are_refused() -> None:
    lesson = lesson_at("toy", 0.0)
    one = random_demonstration(lesson)
    for changed, message in (
        ({"actions": (*one.actions[:-1], 23)}, "does action 23 in step"),
        ({"actions": one.actions[:-1]}, "here unfinished"),
        ({"step_time_s": 2 * one.step_time_s}, "says step_time_s="),
    ):
        broken = dataclasses.replace(one, **changed)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match=message):
            record(Teaching((lesson,)).with_more([broken]))
    with pytest.raises(InvalidInputError, match="demonstrations are empty"):
        record(Teaching((lesson,)))


def test_it_learns_to_plan_as_it_was_shown(tmp_path: Path) -> None:
    teaching = taught("toy", "gpt2_tiny", share=0.2)
    config = dataclasses.replace(SHORT, epochs=120, validate_every=40)
    start = without_preferences()
    network = _clone(tmp_path, teaching, config, start=start)
    validation = _validation(teaching)
    assert validation.regret(start) > 0.02
    assert validation.regret(network) < 0.005
    recordings = record(teaching)
    assert mean_loss(network, recordings, 2) < 0.5 * mean_loss(start, recordings, 2)


def test_a_training_that_was_stopped_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    teaching = taught("toy", "gpt2_tiny")
    whole = _Recorder()
    expected = _clone(tmp_path / "whole", teaching, tracker=whole)
    stopped = _Recorder(epochs=2)
    with pytest.raises(_Stopped):
        _clone(tmp_path / "parts", teaching, tracker=stopped)
    resumed = _Recorder()
    found = _clone(tmp_path / "parts", teaching, tracker=resumed, resume=True)
    assert _same(expected, found)
    assert stopped.rows + resumed.rows == whole.rows
    other = dataclasses.replace(SHORT, seed=1)
    assert not _same(expected, _clone(tmp_path / "other", teaching, other))


def test_a_given_network_is_where_it_begins_and_stays_as_it_is(tmp_path: Path) -> None:
    teaching, start = taught("toy"), untrained(5)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    config = dataclasses.replace(SHORT, max_seconds=1e-9)
    validation = _validation(teaching)
    policy = clone_policy(teaching, validation, config, tmp_path, NoneTracker(), start)
    assert _same(policy.network, start)
    clone_policy(teaching, validation, SHORT, tmp_path, NoneTracker(), start)
    assert all(torch.equal(before[name], value) for name, value in start.state_dict().items())


def test_loss_on_held_out_demonstrations_is_told(tmp_path: Path) -> None:
    teaching, tracker = taught("toy"), _Recorder()
    held_out = taught("gpt2_tiny")
    validation = _validation(teaching)
    clone_policy(teaching, validation, SHORT, tmp_path, tracker, held_out=held_out)
    assert "validation/loss" in tracker.rows[-1]


def test_only_the_same_training_is_resumed(tmp_path: Path) -> None:
    teaching = taught("toy")
    with pytest.raises(FileFormatError, match="to resume from"):
        _clone(tmp_path / "empty", teaching, resume=True)
    _clone(tmp_path, teaching)
    with pytest.raises(FileFormatError, match="other demonstrations or with other values"):
        _clone(tmp_path, teaching, dataclasses.replace(SHORT, seed=1), resume=True)
    more = teaching.with_more([random_demonstration(teaching.lessons[0])])
    with pytest.raises(FileFormatError, match="other demonstrations or with other values"):
        _clone(tmp_path, more, resume=True)
    checkpoint = tmp_path / CHECKPOINT_NAME
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(FileFormatError, match="cannot be resumed from"):
        _clone(tmp_path, teaching, resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("learning_rate", 0.0), ("value_weight", -1.0), ("last_rate", 2.0)],
)
def test_values_are_checked(name: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=rf"cloning\.{name} is {value}; allowed: "):
        CloningConfig(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"emphasis\.regret is 0; allowed: more than 0"):
        Emphasis(regret=0)
