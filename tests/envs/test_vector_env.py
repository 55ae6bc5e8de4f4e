"""The vectorised environment does what so many single ones do."""

from __future__ import annotations

import numpy as np
import pytest

from remora.envs.joint_env import JointEnv
from remora.envs.vector_env import JointVectorEnv
from remora.errors import InvalidInputError
from tests.envs.problems import SIZE, random_action, sampler_of

NUM_ENVS = 4


def test_it_runs_in_lockstep_with_single_environments() -> None:
    sampler = sampler_of("toy", "gpt2_tiny", "unet_tiny")
    many = JointVectorEnv(sampler, NUM_ENVS, SIZE)
    single = [JointEnv(sampler, SIZE) for _ in range(NUM_ENVS)]
    generator = np.random.default_rng(0)
    shown, _ = many.reset(seed=5)
    for place, env in enumerate(single):
        alone, _ = env.reset(seed=5 + place)
        assert all(np.array_equal(shown[name][place], alone[name]) for name in alone)
    ends = 0
    for _ in range(120):
        actions = np.array([random_action(many.batch, generator, i) for i in range(NUM_ENVS)])
        shown, rewards, ended, truncated, info = many.step(actions)
        assert not truncated.any()
        for place, env in enumerate(single):
            alone, reward, terminated, _, last = env.step(actions[place])
            assert (reward, terminated) == (rewards[place], ended[place])
            if terminated:
                ends += 1
                assert info["final_info"][place]["step_time_s"] == last["step_time_s"]
                assert info["final_info"][place]["schedule"] == last["schedule"]
                alone, _ = env.reset()
            assert np.array_equal(env.action_masks(), many.action_masks()[place])
            for name in alone:
                assert np.array_equal(shown[name][place], alone[name]), name
    assert ends > NUM_ENVS


def test_observations_are_in_the_space_and_stay_as_they_are() -> None:
    env = JointVectorEnv(sampler_of("toy"), 2, SIZE)
    shown, _ = env.reset(seed=0)
    before = {name: values.copy() for name, values in shown.items()}
    assert shown in env.observation_space
    env.step(np.array([0, 0]))
    assert all(np.array_equal(shown[name], before[name]) for name in shown)


def test_without_copies_observations_move_on() -> None:
    env = JointVectorEnv(sampler_of("toy"), 1, SIZE, copy=False)
    shown, _ = env.reset(seed=0)
    before = shown["state"].copy()
    env.step(np.array([0]))
    assert not np.array_equal(shown["state"], before)


def test_no_environments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="num_envs is 0; allowed: 1 or more"):
        JointVectorEnv(sampler_of("toy"), 0, SIZE)
