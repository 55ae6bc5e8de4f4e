"""The environment that stable-baselines3 trains on does what the vectorised one does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

from remora.agents.learned.vec_env import JointVecEnv
from remora.envs.vector_env import JointVectorEnv
from remora.errors import InvalidInputError
from tests.agents.learned.policies import NAMES, random_actions
from tests.envs.problems import SIZE, sampler_of


def _env(seed: int = 3) -> JointVecEnv:
    return JointVecEnv(sampler_of(*NAMES), 3, SIZE, seed)


def test_it_runs_in_lockstep_with_the_vectorised_environment() -> None:
    mine, theirs, generator = _env(), JointVectorEnv(sampler_of(*NAMES), 3, SIZE), np.random
    shown, alike = mine.reset(), theirs.reset(seed=3)[0]
    costs = []
    for _ in range(60):
        assert all(np.array_equal(shown[name], alike[name]) for name in alike)
        assert np.array_equal(get_action_masks(mine), theirs.action_masks())
        actions = random_actions(mine.batch, generator.default_rng(len(costs)))
        shown, rewards, ended, infos = mine.step(actions)
        alike, expected, done, _, info = theirs.step(actions)
        assert rewards == pytest.approx(expected, abs=1e-6)
        assert np.array_equal(ended, done)
        for place in np.flatnonzero(ended):
            overhead = info["final_info"][place]["overhead"]
            assert math.expm1(infos[place]["cost"]) == pytest.approx(overhead)
            assert infos[place]["terminal_observation"]["action_mask"].sum() == 0
            costs.append(infos[place]["cost"])
    assert len(costs) > 3
    assert mine.take_costs() == costs
    assert mine.take_costs() == []


def test_without_shaping_the_last_decision_brings_all() -> None:
    shaped = _env()
    late = JointVecEnv(sampler_of(*NAMES), 3, SIZE, 3, shaping=False)
    shaped.reset(), late.reset()
    owed = np.zeros(3)
    for step in range(60):
        actions = random_actions(shaped.batch, np.random.default_rng(step))
        _, rewards, ended, _ = shaped.step(actions)
        _, paid, _, _ = late.step(actions)
        owed += rewards
        assert paid == pytest.approx(np.where(ended, owed, 0.0), abs=1e-5)
        owed[ended] = 0.0


@pytest.mark.parametrize("shaping", [True, False])
def test_it_goes_on_from_an_earlier_state(shaping: bool) -> None:
    env = JointVecEnv(sampler_of(*NAMES), 3, SIZE, 3, shaping)
    env.reset()

    def played() -> list[float]:
        generator = np.random.default_rng(0)
        return [float(env.step(random_actions(env.batch, generator))[1].sum()) for _ in range(40)]

    played()
    state = env.get_state()
    first = played()
    env.set_state(state)
    assert played() == first


def test_seeds_draw_other_problems() -> None:
    env = _env()
    first = env.reset()
    env.seed(3)
    again = env.reset()
    env.seed(4)
    other = env.reset()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["state"], other["state"])


def test_what_it_does_not_have_is_refused() -> None:
    env = _env()
    assert is_masking_supported(env)
    assert env.env_is_wrapped(JointVectorEnv) == [False] * 3
    with pytest.raises(AttributeError, match="sampler"):
        env.get_attr("sampler")
    with pytest.raises(AttributeError, match="spin"):
        env.env_method("spin")
    with pytest.raises(InvalidInputError, match="num_envs is 0; allowed: 1 or more"):
        JointVecEnv(sampler_of("toy"), 0, SIZE)
