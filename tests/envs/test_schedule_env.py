"""The Gymnasium contract: spaces, checkers, seeds, rewards."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_training

from remora.api.environment import make_env
from remora.envs import SCHEDULE_ENV_ID
from remora.envs.actions import UnitAction
from remora.envs.features import (
    CHOICE_FEATURES,
    EDGE_FEATURES,
    NODE_FEATURES,
    STATE_FEATURES,
    unit_edges,
)
from remora.envs.observation import Observation, ObservationSize
from remora.envs.registration import register
from remora.envs.schedule_env import ScheduleEnv
from remora.errors import InvalidInputError
from tests.envs.toy import SIZE, toy_env, toy_sampler

Step = tuple[Observation, float, bool, dict[str, Any]]


def rollout(env: ScheduleEnv, seed: int) -> list[Step]:
    """One episode of random allowed decisions: observation, reward, end, info."""
    generator = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    steps: list[Step] = [(observation, 0.0, False, info)]
    while not steps[-1][2]:
        action = generator.choice(np.flatnonzero(env.action_masks()))
        observation, reward, terminated, truncated, info = env.step(action)
        assert not truncated
        assert observation in env.observation_space
        steps.append((observation, reward, terminated, info))
    return steps


def assert_equal(first: list[Step], second: list[Step]) -> None:
    assert len(first) == len(second)
    for (seen, *rest), (seen_again, *rest_again) in zip(first, second, strict=True):
        assert rest == rest_again
        assert seen.keys() == seen_again.keys()
        for name, values in seen.items():
            assert np.array_equal(values, seen_again[name]), name


def test_both_checkers_are_silent() -> None:
    env = gymnasium.make(SCHEDULE_ENV_ID, config="one_model", disable_env_checker=True).unwrapped
    check_env(env)
    check_env_for_training(env)


def test_the_registry_knows_the_environment_once() -> None:
    before = gymnasium.spec(SCHEDULE_ENV_ID)
    register()
    assert gymnasium.spec(SCHEDULE_ENV_ID) is before
    assert before.entry_point == "remora.api:make_env"


def test_the_same_seed_gives_the_same_episode() -> None:
    env = toy_env()
    first = rollout(env, 3)
    assert_equal(first, rollout(env, 3))
    assert_equal(first, rollout(toy_env(), 3))


def test_a_pickled_environment_goes_on_alike() -> None:
    env = toy_env()
    env.reset(seed=1)
    copy = pickle.loads(pickle.dumps(env))
    action = np.flatnonzero(env.action_masks())[0]
    mine, theirs = env.step(action), copy.step(action)
    assert mine[1] == theirs[1]
    assert all(np.array_equal(mine[0][key], theirs[0][key]) for key in mine[0])


def test_rewards_add_up_to_minus_the_log_overhead() -> None:
    env = toy_env()
    for seed in range(5):
        steps = rollout(env, seed)
        info = steps[-1][3]
        total = sum(reward for _, reward, _, _ in steps)
        assert total == pytest.approx(-np.log1p(info["overhead"]))
        assert info["peak_bytes"] <= info["budget_bytes"]


def test_a_masked_decision_is_replaced_by_the_completion() -> None:
    env = toy_env()
    env.reset(seed=0)
    fallback = env.episode.fallback
    masked = int(np.flatnonzero(~env.action_masks())[0])
    _, _, _, _, info = env.step(np.int64(masked))
    assert info["replaced"]
    assert env.episode.decisions == (fallback,)


def test_masks_in_the_observation_are_those_of_the_method() -> None:
    env = toy_env()
    observation, _ = env.reset(seed=0)
    assert np.array_equal(observation["action_mask"] > 0, env.action_masks())


def test_padding_is_zero_and_masked() -> None:
    env = toy_env()
    observation, _ = env.reset(seed=0)
    tables = env.episode.tables
    units, edges = tables.num_units, 2 * len(unit_edges(tables.problem.chain))
    assert observation["node_mask"].sum() == units
    assert observation["edge_mask"].sum() == edges
    nodes = observation["nodes"].reshape(SIZE.max_units, len(NODE_FEATURES))
    assert np.all(nodes[units:] == 0.0)
    assert np.all(np.any(nodes[:units] != 0.0, axis=1))
    rows = observation["edges"].reshape(SIZE.max_edges, len(EDGE_FEATURES))
    assert np.all(rows[edges:] == 0.0)


def test_the_card_names_the_lengths_that_the_space_has() -> None:
    card = ScheduleEnv.__doc__
    assert card is not None
    assert f"`Discrete({len(UnitAction)})`" in card
    assert f"| nodes | N x {len(NODE_FEATURES)} |" in card
    assert f"| edges | E x {len(EDGE_FEATURES)} |" in card
    assert f"| state | {len(STATE_FEATURES)} |" in card
    assert f"| choices | A x {len(CHOICE_FEATURES)} |" in card
    for action in UnitAction:
        assert f"| {action.value} | {action.name} |" in card
    for key in toy_env().observation_space:
        assert f"| {key} |" in card


def test_a_given_problem_can_be_played() -> None:
    env = toy_env()
    _, info = env.reset(options={"case": "toy4", "range": 0.5})
    assert info["case"] == "toy4"
    assert env.episode.budget_bytes == env.episode.tables.budget_bytes(0.5)
    with pytest.raises(InvalidInputError, match="case is 'toy9'; allowed: toy3, toy4"):
        env.reset(options={"case": "toy9", "range": 0.5})


def test_render_tells_the_decisions_in_words() -> None:
    env = ScheduleEnv(toy_sampler(), SIZE, render_mode="ansi")
    env.reset(options={"case": "toy3", "range": 1.0})
    env.step(np.int64(UnitAction.KEEP))
    text = env.render()
    assert "KEEP" in text
    assert "over keeping everything" in text


def test_a_graph_that_is_too_large_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="max_units is 3; allowed for case 'toy3': 5"):
        ScheduleEnv(toy_sampler(), ObservationSize(3, 32))
    with pytest.raises(InvalidInputError, match="max_edges is 2; allowed for case 'toy3': "):
        ScheduleEnv(toy_sampler(), ObservationSize(8, 2))


def test_steps_outside_of_an_episode_are_refused() -> None:
    env = toy_env()
    with pytest.raises(InvalidInputError, match="reset"):
        env.action_masks()
    rollout(env, 0)
    with pytest.raises(InvalidInputError, match="the episode is over"):
        env.step(np.int64(0))


def test_make_env_takes_values_and_refuses_unknown_ones() -> None:
    env = make_env("one_model", budget_low=0.5, budget_high=0.5)
    env.reset(seed=0)
    assert env.episode.budget_bytes == env.episode.tables.budget_bytes(0.5)
    with pytest.raises(Exception, match="budget_low"):
        make_env("one_model", budget_lo=0.5)
