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

    assert largest_batch(peak, budget, [start]) == max(0, (budget - base) // slope)
    assert len(set(tried)) == len(tried)


@given(st.integers(1, 2000), st.integers(1, 64))
def test_the_largest_batch_of_steps_is_exact_in_few_trials(limit: int, start: int) -> None:
    trials = 0

    def peak(batch: int) -> int:
        nonlocal trials
        trials += 1
        return 100 + 64 * -(-batch // 16) * 16 + batch**2 // 1000

    budget = peak(limit)
    found = largest_batch(peak, budget, [start])
    assert trials < 30
    assert found >= limit
    assert peak(found) <= budget < peak(found + 1)


def test_a_batch_that_shows_late_in_the_peak_is_found_in_few_trials() -> None:
    trials: list[int] = []

    def peak(batch: int) -> int:
        trials.append(batch)
        # Weights, then activations, then a third slope; rounded up to 512 bytes.
        return 512 * -(-max(10**8, 10**7 + 5500 * batch, 6000 * batch - 10**7) // 512)

    for start in (1, 4, 64):
        trials.clear()
        found = largest_batch(peak, 4 * 10**9, [start])
        assert peak(found) <= 4 * 10**9 < peak(found + 1)
        assert len(trials) < 15


def test_no_size_above_the_most_is_tried() -> None:
    trials: list[int] = []

    def peak(batch: int) -> int:
        trials.append(batch)
        return batch

    assert largest_batch(peak, 10**6, [4, 8], most=1000) == 1000
    assert max(trials) == 1000
