from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remora.api.batch_limit import largest_batch


@given(st.integers(0, 10**4), st.integers(1, 10**3), st.integers(0, 10**6), st.integers(1, 64))
def test_the_largest_batch_of_a_line_is_exact(
    base: int, slope: int, budget: int, start: int
) -> None:
    tried = []

    def peak(batch: int) -> int:
        tried.append(batch)
        return base + slope * batch

    assert largest_batch(peak, budget, start) == max(0, (budget - base) // slope)
    assert len(set(tried)) == len(tried)


@given(st.integers(1, 2000), st.integers(1, 64))
def test_the_largest_batch_of_steps_is_exact_in_few_trials(limit: int, start: int) -> None:
    trials = 0

    def peak(batch: int) -> int:
        nonlocal trials
        trials += 1
        return 100 + 64 * -(-batch // 16) * 16 + batch**2 // 1000

    budget = peak(limit)
    found = largest_batch(peak, budget, start)
    assert trials < 30
    assert found >= limit
    assert peak(found) <= budget < peak(found + 1)
