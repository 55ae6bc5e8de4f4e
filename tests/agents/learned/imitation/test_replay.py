"""Schedules as episodes: exact where an episode can end in them, else close, and always allowed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from remora.agents.learned.imitation import refine as refining
from remora.agents.learned.imitation.refine import refine
from remora.agents.learned.imitation.replay import Replay, Replayer
from remora.agents.learned.imitation.wanted import Reading, wanted_of
from remora.envs.actions import FIRST_OPTION, NUM_DECISIONS, PACES, UnitDecision
from remora.schedule.cuts import default_pipeline
from remora.schedule.menu import keep_all_schedule
from remora.schedule.schedule import (
    Action,
    Group,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    Schedule,
    UnitOption,
)
from remora.simulator.simulate import simulate
from tests.agents.learned.imitation.lessons import NAMES, lesson_at, random_episode
from tests.envs.problems import tables_of


def _replayer(name: str, share: float) -> Replayer:
    lesson = lesson_at(name, share)
    return Replayer(lesson.tables, lesson.budget_bytes)


def _grouped(*groups: Group) -> Schedule:
    """Everything of the toy kept, but for some groups."""
    kept = keep_all_schedule(tables_of("toy").problem.graph)
    return dataclasses.replace(kept, memory=dataclasses.replace(kept.memory, groups=groups))


def _check_allowed(replayer: Replayer, replay: Replay, budget_bytes: int) -> None:
    batch = replayer.batch(1)
    for action in replay.actions:
        assert batch.masks[0, action]
        batch.step(np.array([action]))
    assert batch.schedule(0) == replay.schedule
    timeline = simulate(replayer.tables.problem, replay.schedule)
    assert timeline.max_peak_bytes <= budget_bytes
    assert timeline.step_time_s == pytest.approx(replay.step_time_s)


@pytest.mark.parametrize("name", [*NAMES, "t5_tiny", "toy/2", "gpt2_tiny/4", "unet_tiny/4"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_an_episode_is_found_again_from_its_schedule(name: str, share: float) -> None:
    lesson, generator = lesson_at(name, share), np.random.default_rng(7)
    replayer = Replayer(lesson.tables, lesson.budget_bytes)
    for _ in range(8):
        actions, schedule = random_episode(lesson, generator)
        replay = replayer.replay(schedule)
        assert replay is not None
        assert replay.schedule == schedule
        assert len(replay.actions) == len(actions)
        assert replay.slower == pytest.approx(0.0, abs=1e-12)
        _check_allowed(replayer, replay, lesson.budget_bytes)


@pytest.mark.parametrize("name", [*NAMES, "unet_tiny/4"])
def test_what_does_not_fit_becomes_the_nearest_that_does(name: str) -> None:
    lesson = lesson_at(name, 0.05)
    replayer = Replayer(lesson.tables, lesson.budget_bytes)
    pipeline = default_pipeline(lesson.tables.problem)
    replay = replayer.replay(keep_all_schedule(lesson.tables.problem.graph, pipeline))
    assert replay is not None
    assert replay.slower > 0
    _check_allowed(replayer, replay, lesson.budget_bytes)


def test_a_budget_that_no_episode_is_sure_to_fit_has_no_replay() -> None:
    tables = tables_of("toy")
    replayer = Replayer(tables, tables.least_bytes - 1)
    assert replayer.replay(keep_all_schedule(tables.problem.graph)) is None


def test_groups_inside_of_groups_are_read_in_several_ways() -> None:
    tables = tables_of("toy")
    deep = Group(0, 4, children=(Group(0, 2), Group(2, 4, children=(Group(2, 3),))))
    schedule = _grouped(deep)
    opens, closes = UnitDecision.OPEN, UnitDecision.CLOSE
    outer = wanted_of(tables, schedule, Reading.OUTER).units[:4]
    assert outer == (opens, opens, opens, UnitDecision.CLOSE_NESTED)
    plain = wanted_of(tables, schedule, Reading.PLAIN).units[:4]
    assert plain == (opens, opens, opens, closes)
    inner = wanted_of(tables, schedule, Reading.INNER).units[:4]
    assert inner == (opens, closes, closes, UnitDecision.KEEP)
    replay = _replayer("toy", 1.0).replay(schedule)
    assert replay is not None
    assert replay.slower <= 0


def test_a_checkpoint_on_the_host_and_cuts_are_asked_for() -> None:
    schedule = _grouped(Group(1, 3, Action.OFFLOAD))
    pipeline = PipelinePlan(PipelineKind.ONE_F_ONE_B, (1, 3), 1, 2)
    wanted = wanted_of(tables_of("toy"), dataclasses.replace(schedule, pipeline=pipeline))
    cut, offloaded = NUM_DECISIONS, UnitDecision.CLOSE_OFFLOADED
    assert wanted.units[:4] == (cut, UnitDecision.OPEN, offloaded + cut, 0)
    assert wanted.pipeline == pipeline


def test_paces_that_are_no_choice_go_to_the_nearest() -> None:
    kept = _grouped()
    for pace, nearest in (((40, 40), (8, 4)), ((3, 3), (3, 2))):
        memory = MemoryPlan(kept.memory.options, (), *pace)
        replay = _replayer("toy", 1.0).replay(dataclasses.replace(kept, memory=memory))
        assert replay is not None
        found = replay.schedule.memory
        assert (found.offload_window, found.prefetch_distance) == nearest
        assert nearest in PACES


def test_options_that_no_menu_has_become_those_that_cost_about_as_much() -> None:
    tables = tables_of("unet_tiny")
    kept = keep_all_schedule(tables.problem.graph)
    options = list(kept.memory.options)
    for unit in (2, 6, 10):
        names = [name for name, _ in options[unit].actions]
        options[unit] = UnitOption(tuple((name, Action.OFFLOAD) for name in names))
        assert options[unit] not in tables.menus[unit]
    memory = dataclasses.replace(kept.memory, options=tuple(options))
    wanted = wanted_of(tables, dataclasses.replace(kept, memory=memory))
    for unit in (2, 6, 10):
        nearest = tables.menus[unit][wanted.units[unit] - FIRST_OPTION + 2]
        assert nearest.distinct == {Action.KEEP, Action.OFFLOAD}


def test_refining_wins_back_what_a_replay_lost() -> None:
    lesson = lesson_at("unet_tiny", 0.1)
    replayer = Replayer(lesson.tables, lesson.budget_bytes)
    start = replayer.replay(keep_all_schedule(lesson.tables.problem.graph))
    assert start is not None
    found = refine(replayer, start, 20, np.random.default_rng(0))
    assert found == refine(replayer, start, 20, np.random.default_rng(0))
    assert found.step_time_s < start.step_time_s
    assert found.slower < start.slower
    _check_allowed(replayer, found, lesson.budget_bytes)


def test_refining_gives_larger_models_fewer_rounds_and_ends_when_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lesson = lesson_at("unet_tiny", 0.1)
    replayer = Replayer(lesson.tables, lesson.budget_bytes)
    start = replayer.replay(keep_all_schedule(lesson.tables.problem.graph))
    assert start is not None
    stopped = refine(replayer, start, 20, np.random.default_rng(0), stop=lambda: True)
    assert stopped == start
    four = refine(replayer, start, 4, np.random.default_rng(0))
    # As if what has all rounds were half as large as this model.
    monkeypatch.setattr(refining, "_UNITS", lesson.tables.num_units / 2)
    assert refine(replayer, start, 16, np.random.default_rng(0)) == four != start
