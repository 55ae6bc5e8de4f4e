"""Decoding: finished plans that fit, reproducible draws."""

from __future__ import annotations

import numpy as np
import pytest

from remora.agents.learned.decoding import Decoder
from remora.envs.episode import Episode
from remora.simulator.simulate import simulate
from tests.agents.learned.policies import untrained
from tests.envs.toy import toy_tables


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_decoded_plans_fit_the_budget(share: float) -> None:
    tables = toy_tables()
    decoder = Decoder(untrained(), Episode(tables, tables.budget_bytes(share)))
    for finished in (decoder.greedy(), *decoder.samples(4, np.random.default_rng(0))):
        assert finished.done
        peak = simulate(tables.problem, finished.schedule()).max_peak_bytes
        assert peak <= finished.budget_bytes


def test_a_stopped_decoder_returns_plans_that_fit_all_the_same() -> None:
    tables = toy_tables()
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    start = Episode(tables, tables.budget_bytes(0.4))
    cut = Decoder(untrained(), start, stop).greedy()
    assert cut.cursor == 2
    peak = simulate(tables.problem, cut.schedule()).max_peak_bytes
    assert peak <= start.budget_bytes


def test_the_same_seed_draws_the_same_plans() -> None:
    tables = toy_tables()
    decoder = Decoder(untrained(), Episode(tables, tables.budget_bytes(0.5)))

    def drawn(seed: int) -> list[tuple[int, ...]]:
        return [e.decisions for e in decoder.samples(6, np.random.default_rng(seed))]

    assert drawn(1) == drawn(1)
    assert len(set(drawn(1))) > 1
    assert decoder.greedy().decisions == decoder.greedy().decisions
