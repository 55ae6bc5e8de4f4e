"""Episodes that are copied to other places, or put back to where they stood, go on alike."""

from __future__ import annotations

import numpy as np

from remora.envs.actions import Phase
from remora.envs.arrays import STATE_COLUMNS
from remora.envs.batch import EpisodeBatch
from tests.envs.problems import SIZE, random_action, sampler_of


def _begun(count: int) -> EpisodeBatch:
    sampler = sampler_of("toy", "gpt2_tiny")
    batch = EpisodeBatch(sampler, count, SIZE)
    for place in range(count):
        index = place % 2
        batch.begin(place, index, sampler.problems[index].budget_bytes(0.3))
    return batch


def _finish(batch: EpisodeBatch, seed: int) -> list[float]:
    """Play place 0 to its end at random, all others alike; returns its rewards."""
    generator = np.random.default_rng(seed)
    rewards = []
    while batch.phase(0) is not Phase.DONE:
        action = random_action(batch, generator)
        outcome = batch.step(np.full(len(batch.masks), action))
        rewards.append(float(outcome.rewards[0]))
    return rewards


def test_a_copy_goes_on_like_its_original() -> None:
    batch = _begun(2)
    for _ in range(5):
        batch.step(np.array([batch.fallback(0), batch.fallback(1)]))
    batch.copy(0, 1)
    _finish(batch, 0)
    assert batch.problem(1) is batch.problem(0)
    assert batch.decisions(1) == batch.decisions(0)
    assert batch.step_time_s(1) == batch.step_time_s(0)
    assert all(np.array_equal(*values) for values in batch.observations().values())


def test_what_was_put_back_goes_on_as_it_did() -> None:
    batch = _begun(3)
    for _ in range(4):
        batch.step(np.array([batch.fallback(place) for place in range(3)]))
    snapshot = batch.snapshot()
    first = _finish(batch, 1)
    plan = batch.schedule(0)
    batch.restore(snapshot)
    assert _finish(batch, 1) == first
    assert batch.schedule(0) == plan


def test_what_is_given_does_not_change_with_actions() -> None:
    batch = _begun(2)
    given = [n for n, name in enumerate(STATE_COLUMNS) if name.startswith("given_")]
    before = batch.observations()["state"][:, given].copy()
    assert not np.array_equal(before[0], before[1])
    generator = np.random.default_rng(2)
    while batch.phase(0) is not Phase.DONE:
        batch.step(np.array([random_action(batch, generator, place) for place in range(2)]))
        assert np.array_equal(batch.observations()["state"][:, given], before)
