"""Plans made for more memory than there is are kept where they fit all the same."""

from __future__ import annotations

import numpy as np
import pytest

from remora.agents.learned.decoding import Decoder
from remora.agents.learned.slack import fitting_plans
from remora.simulator.compiled import simulator_of
from tests.agents.learned.imitation.lessons import lesson_at
from tests.agents.learned.policies import untrained


@pytest.mark.parametrize(
    ("name", "share"), [("toy", 0.1), ("gpt2_tiny", 0.3), ("unet_tiny/4", 0.2)]
)
def test_every_plan_fits_and_none_is_lost(name: str, share: float) -> None:
    lesson, network = lesson_at(name, share), untrained()
    tables, budget = lesson.tables, lesson.budget_bytes
    decoder = Decoder(network, tables, budget)
    plans = fitting_plans(decoder, tables, budget, 8, np.random.default_rng(0))
    assert len(plans) > 1
    for plan in plans:
        figures = simulator_of(tables.problem).figures(plan.schedule)
        assert figures.max_peak_bytes <= budget
        assert figures.step_time_s == pytest.approx(plan.step_time_s)
    assert decoder.greedy().actions in {plan.actions for plan in plans}


def test_more_memory_than_masks_allow_is_used_where_it_is_there() -> None:
    lesson = lesson_at("gpt2_tiny", 0.3)
    tables, network = lesson.tables, untrained()

    def gain(budget: int) -> float:
        decoder = Decoder(network, tables, budget)
        plans = fitting_plans(decoder, tables, budget, 0, np.random.default_rng(0))
        return decoder.greedy().step_time_s / min(plan.step_time_s for plan in plans)

    gains = [gain(tables.budget_bytes(share)) for share in (0.1, 0.2, 0.3, 0.4)]
    assert min(gains) >= 1.0
    assert max(gains) > 1.0


def test_a_budget_below_what_masks_need_may_still_have_plans() -> None:
    lesson = lesson_at("toy", 0.0)
    tables = lesson.tables
    decoder = Decoder(untrained(), tables, tables.least_bytes)
    below = tables.least_bytes // 2
    assert fitting_plans(decoder, tables, below, 4, np.random.default_rng(0)) == []
