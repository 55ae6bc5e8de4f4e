"""Episodes of several ranks: every finished plan is valid and fits, and bounds hold."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_for_training

from remora.envs.actions import KINDS, Phase
from remora.envs.arrays import CHOICE_COLUMNS, STATE_COLUMNS
from remora.envs.batch import EpisodeBatch
from remora.envs.joint_env import JointEnv
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import JointSampler
from remora.schedule.validate import validate
from remora.simulator.compiled import simulator_of
from tests.envs.pipeline_problems import pipelines_of
from tests.envs.problems import SIZE, random_action


def played(tables: ProblemTables, share: float, seed: int, random_steps: int, kind: int) -> None:
    """Play an episode, with the wanted kind where that is allowed, and check how it ends."""
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    batch.begin(0, 0, tables.budget_bytes(share))
    generator, bounds_s = np.random.default_rng(seed), [batch.bounds_s[0]]
    for step in range(10_000):
        phase, allowed = batch.phase(0), batch.masks[0]
        if phase is Phase.DONE:
            break
        assert allowed.any()
        if phase is Phase.KIND and allowed[kind]:
            action = kind
        elif phase is Phase.UNITS:
            action = random_action(batch, generator) if step < random_steps else batch.fallback(0)
        else:
            action = int(generator.choice(np.flatnonzero(allowed)))
        batch.step(np.array([action]))
        bounds_s.append(batch.bounds_s[0])
    schedule = batch.schedule(0)
    validate(tables.problem, schedule)
    figures = simulator_of(tables.problem).figures(schedule)
    assert max(figures.peak_bytes) <= batch.budget_bytes(0)
    assert max(figures.host_peak_bytes) <= tables.problem.hardware.host.memory_bytes
    assert bounds_s == sorted(bounds_s)
    assert max(bounds_s) <= figures.step_time_s * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(("toy", "narrow", "unet_tiny")),
    st.sampled_from((2, 4)),
    st.sampled_from((0.0, 0.05, 0.2, 0.6)),
    st.integers(0, 10_000),
    st.integers(0, 40),
    st.integers(0, len(KINDS) - 1),
)
def test_every_episode_ends_in_a_plan_that_fits(
    name: str, ranks: int, share: float, seed: int, random_steps: int, kind: int
) -> None:
    played(pipelines_of(name, ranks), share, seed, random_steps, kind)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(("gpt2_tiny", "t5_tiny", "unet_tiny", "narrow")),
    st.sampled_from((2, 4, 8)),
    st.sampled_from((0.0, 0.02, 0.1, 0.3, 1.0)),
    st.integers(0, 10_000),
    st.integers(0, 60),
    st.integers(0, len(KINDS) - 1),
)
def test_many_episodes_of_models_end_in_plans_that_fit(
    name: str, ranks: int, share: float, seed: int, random_steps: int, kind: int
) -> None:
    played(pipelines_of(name, ranks), share, seed, random_steps, kind)


@pytest.mark.slow
def test_both_checkers_are_silent() -> None:
    env = JointEnv(JointSampler([pipelines_of("toy", 2)]), SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
        check_env_for_training(env)


@pytest.mark.parametrize("kind", range(1, len(KINDS)))
def test_every_kind_can_be_played(kind: int) -> None:
    tables = pipelines_of("narrow", 2)
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    batch.begin(0, 0, tables.budget_bytes(1.0))
    batch.step(np.array([0]))
    assert batch.phase(0) is Phase.KIND
    offered = [KINDS[place] for place in np.flatnonzero(batch.masks[0])]
    if KINDS[kind] not in offered:
        pytest.skip(f"{KINDS[kind]} needs more units or micro-batches")
    batch.step(np.array([kind]))
    while batch.phase(0) is not Phase.UNITS:
        batch.step(np.array([np.flatnonzero(batch.masks[0])[-1]]))
    told = dict(zip(STATE_COLUMNS, batch.observations()["state"][0], strict=True))
    assert told[f"kind_{kind}"] == 1.0
    assert told["stages_left"] > 0
    while batch.phase(0) is not Phase.DONE:
        batch.step(np.array([batch.fallback(0)]))
    pipeline = batch.schedule(0).pipeline
    assert (pipeline.kind, pipeline.chunks) == KINDS[kind]


def test_a_cut_after_a_unit_says_how_full_the_stage_is() -> None:
    tables = pipelines_of("toy", 2)
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    batch.begin(0, 0, tables.budget_bytes(1.0))
    while batch.phase(0) is not Phase.UNITS:
        batch.step(np.array([np.flatnonzero(batch.masks[0])[0]]))
    choices = batch.observations()["choices"][0].reshape(-1, len(CHOICE_COLUMNS))
    value = choices[0, CHOICE_COLUMNS.index("value")]
    batch.step(np.array([0]))
    later = batch.observations()["choices"][0].reshape(-1, len(CHOICE_COLUMNS))
    assert later[0, CHOICE_COLUMNS.index("value")] > value > 0
