"""What other actions lead to is what happens, and a network learns to take the best of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from remora.agents.learned.decoding import Decoder
from remora.agents.learned.imitation.cloning import CloningConfig, clone_policy, mean_loss
from remora.agents.learned.imitation.explored_files import (
    EXPLORED_NAME,
    read_explored,
    write_explored,
)
from remora.agents.learned.imitation.lesson import Explored, Teaching
from remora.agents.learned.imitation.lookahead import LookaheadConfig, look_ahead
from remora.agents.learned.imitation.recorder import Emphasis, record
from remora.agents.learned.playing import Player, exact_size
from remora.agents.learned.selection import Validation, ValidationProblem
from remora.envs.batch import EpisodeBatch
from remora.envs.sampler import JointSampler
from remora.errors import FileFormatError, InvalidInputError
from remora.tracking.none_tracker import NoneTracker
from tests.agents.learned.imitation.lessons import lesson_at, random_demonstration
from tests.agents.learned.policies import opinionated, without_preferences

OWN = LookaheadConfig(shown=0, own=1, unlikely=50.0)


def test_costs_are_those_of_going_on_with_the_policy() -> None:
    lesson, network = lesson_at("toy"), opinionated()
    (explored,) = look_ahead(network, Teaching((lesson,)), OWN)
    assert (
        explored.episode.actions
        == Decoder(network, lesson.tables, lesson.budget_bytes).greedy().actions
    )
    generator = np.random.default_rng(0)
    tried = np.argwhere(np.isfinite(explored.costs))
    for step, action in generator.choice(tried, 8, replace=False).tolist():
        batch = EpisodeBatch(JointSampler([lesson.tables]), 1, exact_size([lesson.tables]))
        batch.begin(0, 0, lesson.budget_bytes)
        player = Player(network, batch)
        for chosen in (*explored.episode.actions[:step], action):
            player.act(np.array([chosen]))
        while player.running.any():
            player.act(player.log_probabilities().argmax(dim=1).numpy())
        cost = math.log(batch.step_time_s(0) / lesson.tables.keep_all_s)
        assert explored.costs[step, action] == pytest.approx(cost, abs=1e-6)


def test_the_action_that_was_taken_costs_what_the_episode_did() -> None:
    lesson = lesson_at("toy", 0.2)
    (explored,) = look_ahead(opinionated(1), Teaching((lesson,)), OWN)
    expected = math.log(explored.episode.step_time_s / lesson.tables.keep_all_s)
    for step, action in enumerate(explored.episode.actions):
        if np.isfinite(explored.costs[step]).any():
            assert explored.costs[step, action] == pytest.approx(expected, abs=1e-6)


def test_settings_of_the_best_demonstration_come_first() -> None:
    lesson = lesson_at("unet_tiny/4")
    shown = [random_demonstration(lesson, seed) for seed in range(4)]
    teaching = Teaching((lesson,)).with_more(shown)
    best = min(shown, key=lambda one: one.step_time_s)
    (explored,) = look_ahead(opinionated(), teaching, LookaheadConfig(shown=1, own=0))
    settings = len(best.actions) - lesson.tables.num_units
    assert explored.episode.actions[:settings] == best.actions[:settings]


def test_it_is_learned_what_leads_to_fast_plans(tmp_path: Path) -> None:
    lessons = (lesson_at("toy", 0.2), lesson_at("gpt2_tiny", 0.2))
    start = without_preferences()
    found = look_ahead(start, Teaching(lessons), OWN)
    teaching = Teaching(lessons, (), tuple(found))
    best = {one.episode.lesson: math.exp(one.costs.min()) for one in found}
    validation = Validation(
        [
            ValidationProblem(
                lesson.tables, lesson.budget_bytes, best[lesson.name] * lesson.tables.keep_all_s
            )
            for lesson in lessons
        ]
    )
    config = CloningConfig(epochs=150, validate_every=150, episodes_per_batch=2, learning_rate=5e-3)
    policy = clone_policy(teaching, validation, config, tmp_path, NoneTracker(), start)
    assert validation.regret(policy.network) < validation.regret(start)
    recordings = record(teaching)
    assert mean_loss(policy.network, recordings, 2) < 0.7 * mean_loss(start, recordings, 2)


def test_steps_that_do_not_matter_are_not_learned_from() -> None:
    emphasis = Emphasis(outcome=0.01, matter=0.02)
    costs = np.full(24, np.inf)
    costs[[0, 3]] = 0.5
    found = emphasis.of_outcomes(costs)
    assert found is not None
    targets, weight = found
    assert targets[[0, 3]].tolist() == pytest.approx([0.5, 0.5])
    assert weight == 0.0
    costs[3] = 0.9
    found = emphasis.of_outcomes(costs)
    assert found is not None
    assert found[0][0] > 0.999
    assert found[1] == 1.0
    assert emphasis.of_outcomes(np.full(24, np.inf)) is None


def _same(one: Explored, other: Explored) -> bool:
    return one.episode == other.episode and np.array_equal(one.costs, other.costs)


def test_files_hold_what_was_explored(tmp_path: Path) -> None:
    lessons = (lesson_at("toy"), lesson_at("gpt2_tiny"))
    found = look_ahead(opinionated(), Teaching(lessons), OWN)
    path = tmp_path / EXPLORED_NAME
    write_explored(path, found)
    assert all(map(_same, read_explored(path), found))
    arrays = path.with_suffix(".npz")
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="is missing or broken"):
        read_explored(path)
    arrays.write_bytes(whole)
    write_explored(tmp_path / "other" / EXPLORED_NAME, found[:1])
    arrays.write_bytes((tmp_path / "other" / EXPLORED_NAME).with_suffix(".npz").read_bytes())
    with pytest.raises(FileFormatError, match="which is not that of"):
        read_explored(path)


def test_bad_values_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"lookahead\.together is 0; allowed: 1 or more"):
        LookaheadConfig(together=0)
    with pytest.raises(InvalidInputError, match="shown or own at least 1"):
        LookaheadConfig(shown=0, own=0)
