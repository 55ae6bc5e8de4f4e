"""No allowed action leads to a dead end, and every finished plan fits."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.envs.actions import Phase, UnitDecision
from remora.envs.batch import EpisodeBatch
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import JointSampler
from remora.schedule.schedule import Placement, StatePlan
from remora.schedule.validate import validate
from remora.simulator.simulate import simulate
from tests.envs.problems import GRAPHS, SIZE, played_out, tables_of

PLANS = settings(max_examples=40, deadline=None)


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


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(GRAPHS),
    st.sampled_from((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
    st.sampled_from((UnitDecision.KEEP, UnitDecision.CLOSE, UnitDecision.CLOSE_OFFLOADED)),
)
def test_a_favourite_taken_wherever_it_is_allowed_fits(
    name: str, share: float, favourite: UnitDecision
) -> None:
    tables = tables_of(name, "none")
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    batch.begin(0, 0, tables.budget_bytes(share))
    while batch.masks[0].any():
        units = batch.phase(0) is Phase.UNITS
        wanted = units and batch.masks[0, favourite]
        batch.step(np.array([favourite if wanted else batch.fallback(0)]))
    assert_fits(batch)


def test_without_a_link_to_the_host_nothing_goes_there() -> None:
    known = tables_of("toy").problem
    dead = dataclasses.replace(known.hardware.host, d2h_bytes_per_s=0.0)
    hardware = dataclasses.replace(known.hardware, host=dead)
    tables = ProblemTables("dead", dataclasses.replace(known, hardware=hardware))
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    generator = np.random.default_rng(0)
    for _ in range(10):
        batch.begin(0, 0, tables.budget_bytes(0.3))
        played_out(batch, generator, 50)
        validate(tables.problem, batch.schedule(0))
        assert batch.setting(0).state.optimizer is not Placement.HOST


def test_pinned_memory_of_the_host_is_held_to_its_limit() -> None:
    known = tables_of("gpt2_tiny", "none").problem
    limit = 200_000
    host = dataclasses.replace(known.hardware.host, memory_bytes=limit)
    hardware = dataclasses.replace(known.hardware, host=host)
    tables = ProblemTables("narrow", dataclasses.replace(known, hardware=hardware))
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    generator = np.random.default_rng(0)
    used = []
    for _ in range(30):
        batch.begin(0, 0, tables.budget_bytes(0.5))
        played_out(batch, generator, 50)
        used += simulate(tables.problem, batch.schedule(0)).host_peak_bytes
    assert 0 < max(used) <= limit


def test_only_what_the_problem_allows_is_offered() -> None:
    known = tables_of("toy").problem
    plain = dataclasses.replace(known, allow_lossy=False, state_on_device=True, micro_batches=2)
    batch = EpisodeBatch(JointSampler([ProblemTables("plain", plain)]), 1, SIZE)
    batch.begin(0, 0, batch.problem(0).budget_bytes(1.0))
    assert batch.phase(0) is Phase.PACE
    assert batch.setting(0).micro_batches == 2
    assert batch.setting(0).state == StatePlan()


def test_groups_leave_fixed_units_out() -> None:
    tables = tables_of("unet_tiny")
    fixed = [unit.index for unit in tables.problem.chain.units if unit.fixed]
    batch = EpisodeBatch(JointSampler([tables]), 1, SIZE)
    generator = np.random.default_rng(1)
    for _ in range(20):
        batch.begin(0, 0, tables.budget_bytes(1.0))
        played_out(batch, generator, 60)
        assert all(batch.decisions(0)[unit] == 0 for unit in fixed)
