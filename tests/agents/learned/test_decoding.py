"""Decoding: finished plans that fit, reproducible, in time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from remora.agents.heuristics.shapes import shape_of
from remora.agents.learned.decoding import Decoded, Decoder
from remora.agents.learned.playing import Player, exact_size
from remora.envs.batch import EpisodeBatch
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError
from remora.simulator.simulate import simulate
from tests.agents.learned.policies import opinionated, untrained
from tests.envs.pipeline_problems import pipelines_of
from tests.envs.problems import tables_of

NAMES = ["toy", "gpt2_tiny", "unet_tiny"]


def _decoder(
    name: str = "toy", share: float = 0.3, stop: Callable[[], bool] = lambda: False
) -> Decoder:
    tables = tables_of(name)
    return Decoder(untrained(), tables, tables.budget_bytes(share), stop)


def _after(count: int) -> Callable[[], bool]:
    """Tell to stop once that was asked so often."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


def _plans(found: list[Decoded]) -> list[tuple[int, ...]]:
    return [decoded.actions for decoded in found]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_decoded_plans_fit_and_take_as_long_as_they_say(name: str, share: float) -> None:
    tables, decoder = tables_of(name), _decoder(name, share)
    problem = dataclasses.replace(tables.problem, budget_bytes=tables.budget_bytes(share))
    found = [
        decoder.greedy(),
        *decoder.samples(4, np.random.default_rng(0)),
        *decoder.beam(3),
    ]
    assert len(found) == 8
    for decoded in found:
        timeline = simulate(problem, decoded.schedule)
        assert timeline.max_peak_bytes <= problem.budget_bytes
        assert timeline.step_time_s == pytest.approx(decoded.step_time_s)


def test_the_same_seed_draws_the_same_plans() -> None:
    decoder = _decoder()
    first = _plans(decoder.samples(6, np.random.default_rng(1)))
    assert first == _plans(decoder.samples(6, np.random.default_rng(1)))
    assert len(set(first)) > 1
    assert decoder.greedy() == _decoder().greedy()


def test_more_plans_than_are_played_together_are_played_one_after_the_other() -> None:
    tables = tables_of("toy")
    decoder = Decoder(untrained(), tables, tables.budget_bytes(0.3), together=4)
    assert len(decoder.samples(10, np.random.default_rng(0))) == 10


def test_a_low_temperature_draws_the_greedy_plan() -> None:
    decoder = _decoder()
    cold = decoder.samples(3, np.random.default_rng(0), temperature=1e-6)
    assert _plans(cold) == 3 * [decoder.greedy().actions]
    with pytest.raises(InvalidInputError, match="temperature is 0; allowed: more than 0"):
        decoder.samples(1, np.random.default_rng(0), temperature=0)


def test_a_beam_of_one_is_greedy_and_a_wide_one_finds_likelier_plans() -> None:
    decoder = _decoder("gpt2_tiny")
    greedy = decoder.greedy()
    assert _plans(decoder.beam(1)) == [greedy.actions]
    found = decoder.beam(16)
    assert len(set(_plans(found))) == 16
    assert max(decoded.log_probability for decoded in found) >= greedy.log_probability
    with pytest.raises(InvalidInputError, match="beam is 0; allowed: 1 or more"):
        decoder.beam(0)


def test_a_beam_that_is_wide_enough_finds_every_plan() -> None:
    decoder = _decoder("toy", 0.0)
    found = decoder.beam(4096)
    total = sum(np.exp(decoded.log_probability) for decoded in found)
    assert total == pytest.approx(1.0, abs=1e-3)
    drawn = _plans(decoder.samples(20, np.random.default_rng(0)))
    assert set(drawn) <= set(_plans(found))


@pytest.mark.parametrize("name", NAMES)
def test_a_beam_knows_how_likely_its_plans_are(name: str) -> None:
    tables, network = tables_of(name), opinionated()
    sampler, budget = JointSampler([tables]), tables.budget_bytes(0.6)
    for decoded in Decoder(network, tables, budget).beam(24):
        batch = EpisodeBatch(sampler, 1, exact_size([tables]))
        batch.begin(0, 0, budget)
        player, total = Player(network, batch), 0.0
        for action in decoded.actions:
            total += float(player.log_probabilities()[0, action])
            player.act(np.array([action]))
        assert total == pytest.approx(decoded.log_probability, abs=1e-4)
        assert batch.schedule(0) == decoded.schedule


def test_the_best_of_many_is_never_slower_than_the_greedy_one() -> None:
    decoder = _decoder("unet_tiny", 0.1)
    best = decoder.best_of(16, np.random.default_rng(0))
    assert best.step_time_s <= decoder.greedy().step_time_s


def test_told_to_stop_it_answers_with_what_it_has() -> None:
    greedy = _decoder(stop=_after(2)).greedy()
    assert greedy.schedule
    assert _decoder(stop=_after(3)).samples(4, np.random.default_rng(0)) == []
    assert _decoder(stop=_after(3)).beam(4) == []
    best = _decoder(stop=_after(0)).best_of(4, np.random.default_rng(0))
    assert best.log_probability == 0.0


def test_beginnings_differ_in_pipeline_micro_batches_or_state() -> None:
    tables = pipelines_of("toy", 4)
    decoder = Decoder(untrained(), tables, tables.budget_bytes(0.3))
    ways = decoder.beginnings(3, tables.budget_bytes(0.3))
    assert len(set(ways)) == len(ways) == 3
    plans = decoder.greedy_under([(tables.budget_bytes(0.3), way) for way in ways])
    made = set()
    for way, plan in zip(ways, plans, strict=True):
        assert plan is not None
        assert plan.actions[: len(way)] == way
        pipeline = plan.schedule.pipeline
        made.add((shape_of(pipeline), plan.schedule.state))
    assert len(made) == 3


def test_plans_that_the_time_cuts_short_are_told_apart() -> None:
    tables = pipelines_of("toy", 4)
    decoder = Decoder(untrained(), tables, tables.budget_bytes(0.3), _after(3))
    assert decoder.greedy_under([(tables.budget_bytes(0.3), ())] * 2) == [None, None]
