"""The likely step time of a pipeline lies between what two plans of it take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.simulator.likely import likely_step_s

KEPT = (1.0, 1000.0)
AGAIN = (1.4, 200.0)


@pytest.mark.parametrize(
    ("budget_bytes", "expected_s"), [(2000, 1.0), (1000, 1.0), (600, 1.2), (200, 1.4)]
)
def test_seconds_grow_evenly_with_the_bytes_that_have_to_go(
    budget_bytes: float, expected_s: float
) -> None:
    assert likely_step_s(*KEPT, *AGAIN, budget_bytes) == pytest.approx(expected_s)


@given(st.lists(st.floats(1, 3000), min_size=2, max_size=2).map(sorted))
def test_more_memory_never_takes_longer(budgets_bytes: list[float]) -> None:
    less, more = (likely_step_s(*KEPT, *AGAIN, budget) for budget in budgets_bytes)
    assert more <= less * (1 + 1e-12)


def test_recomputing_that_frees_nothing_is_no_way_out() -> None:
    assert likely_step_s(1.0, 1000.0, 1.4, 1000.0, 900.0) > 1.4
