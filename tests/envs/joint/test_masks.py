"""No allowed action leads to a dead end, and every finished plan fits."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.envs.joint.batch import EpisodeBatch
from remora.envs.joint.sampler import JointSampler
from remora.schedule.validate import validate
from remora.simulator.simulate import simulate
from tests.envs.joint.problems import GRAPHS, SIZE, played_out, tables_of

PLANS = settings(max_examples=60, deadline=None)


def assert_fits(batch: EpisodeBatch) -> None:
    problem = batch.problem(0).problem
    schedule = batch.schedule(0)
    validate(problem, schedule)
    timeline = simulate(problem, schedule)
    assert timeline.max_peak_bytes <= batch.budget_bytes(0)
    assert max(timeline.host_peak_bytes) <= problem.hardware.host.memory_bytes


@PLANS
@given(
    st.sampled_from(GRAPHS),
    st.sampled_from(("adamw", "none")),
    st.sampled_from((0.0, 0.02, 0.1, 0.3, 1.0)),
    st.integers(0, 60),
    st.integers(0, 10_000),
)
def test_every_reachable_state_completes_to_a_plan_that_fits(
    name: str, optimizer: str, share: float, random_steps: int, seed: int
) -> None:
    tables = tables_of(name, optimizer)
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    batch.begin(0, 0, tables.budget_bytes(share))
    played_out(batch, np.random.default_rng(seed), random_steps)
    assert_fits(batch)
