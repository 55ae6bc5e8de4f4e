"""The Gymnasium contract: spaces, checkers, seeds, rewards."""

from __future__ import annotations

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_training

from remora.envs import SCHEDULE_ENV_ID
from remora.envs.actions import NUM_ACTIONS, Phase, UnitDecision
from remora.envs.arrays import CHOICE_COLUMNS, STATE_COLUMNS
from remora.envs.graphs import EDGE_COLUMNS, NODE_COLUMNS
from remora.envs.joint_env import JointEnv
from remora.envs.observation import JointSize
from remora.errors import InvalidInputError
from remora.simulator.compiled import simulator_of
from tests.envs.problems import SIZE, random_action, sampler_of


def env_of(*names: str) -> JointEnv:
    return JointEnv(sampler_of(*names), SIZE)


@pytest.mark.slow
def test_both_checkers_are_silent() -> None:
    made = gymnasium.make(
        SCHEDULE_ENV_ID, config="joint_one_model", num_problems=2, disable_env_checker=True
    )
    env = made.unwrapped
    check_env(env)
    check_env_for_training(env)


def test_the_return_is_minus_the_log_of_the_slowdown_and_bounds_hold() -> None:
    env = env_of("toy", "unet_tiny")
    for seed in range(12):
        generator = np.random.default_rng(seed)
        env.reset(seed=seed)
        total, ended, bounds, info = 0.0, False, [float(env.batch.bounds_s[0])], {}
        while not ended:
            action = random_action(env.batch, generator)
            observation, reward, ended, _, info = env.step(np.int64(action))
            assert observation in env.observation_space
            total += reward
            bounds.append(float(env.batch.bounds_s[0]))
        problem = env.batch.problem(0)
        figures = simulator_of(problem.problem).figures(info["schedule"])
        assert info["step_time_s"] == figures.step_time_s
        assert bounds == sorted(bounds)
        assert bounds[-1] <= figures.step_time_s
        assert total == pytest.approx(-np.log(figures.step_time_s / problem.keep_all_s))


def test_the_bound_is_the_step_time_where_nothing_goes_to_the_host() -> None:
    env = env_of("gpt2_tiny")
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(10):
        env.reset(options={"problem": "gpt2_tiny/adamw", "range": 1.0})
        ended, info = False, {}
        while not ended:
            wanted = (0, 1, 2, 3) if env.batch.phase(0) is Phase.UNITS else (0,)
            allowed = [action for action in wanted if env.action_masks()[action]]
            _, _, ended, _, info = env.step(np.int64(generator.choice(allowed)))
        seen |= set(env.batch.decisions(0))
        assert env.batch.bounds_s[0] == pytest.approx(info["step_time_s"], rel=1e-9)
    assert seen == {0, 1, 2, 3}


def test_the_same_seed_gives_the_same_episode_and_a_pickled_one_goes_on_alike() -> None:
    first, second = env_of("toy", "unet_tiny"), env_of("toy", "unet_tiny")
    for env in (first, second):
        env.reset(seed=4)
    third = pickle.loads(pickle.dumps(first))
    for _ in range(6):
        action = np.int64(np.flatnonzero(first.action_masks())[-1])
        results = [env.step(action) for env in (first, second, third)]
        for name, values in results[0][0].items():
            assert np.array_equal(values, results[1][0][name])
            assert np.array_equal(values, results[2][0][name])
        assert len({result[1] for result in results}) == 1


def test_a_masked_action_is_replaced() -> None:
    env = env_of("toy")
    env.reset(seed=0)
    masked = int(np.flatnonzero(~env.action_masks())[-1])
    assert env.step(np.int64(masked))[4]["replaced"]


def test_masks_in_the_observation_are_those_of_the_method() -> None:
    env = env_of("toy")
    observation, _ = env.reset(seed=0)
    assert np.array_equal(observation["action_mask"] > 0, env.action_masks())


def test_the_card_names_the_lengths_that_the_space_has() -> None:
    card = JointEnv.__doc__
    assert card is not None
    for words in (
        f"`Discrete({NUM_ACTIONS})`",
        f"| nodes | N x {len(NODE_COLUMNS)} |",
        f"| edges | E x {len(EDGE_COLUMNS)} |",
        f"| state | {len(STATE_COLUMNS)} |",
        f"| choices | A x {len(CHOICE_COLUMNS)} |",
    ):
        assert words in card
    for decision in UnitDecision:
        assert f"| unit | {decision.value} | {decision.name}" in card


def test_bad_input_is_named() -> None:
    env = env_of("toy")
    with pytest.raises(InvalidInputError, match="reset"):
        env.step(np.int64(0))
    with pytest.raises(InvalidInputError, match="problem is 'none'; allowed: toy/adamw"):
        env.reset(options={"problem": "none", "range": 0.5})
    with pytest.raises(InvalidInputError, match="max_units is 2; allowed for problem 'toy/adamw'"):
        JointEnv(sampler_of("toy"), JointSize(2, 64))
    least = env.batch.problem(0).least_bytes
    with pytest.raises(InvalidInputError, match=f"at least {least}"):
        env.batch.begin(0, 0, least - 1)


def test_a_given_problem_is_played_and_told_in_words() -> None:
    env = JointEnv(sampler_of("toy"), SIZE, render_mode="ansi")
    _, info = env.reset(options={"problem": "toy/adamw", "range": 1.0})
    assert info["problem"] == "toy/adamw"
    while env.batch.decisions(0) == ():
        env.step(np.int64(0))
    assert "KEEP" in env.render()
