from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remora.api.batch_limit import batch_of, largest_batch, with_batch
from remora.errors import InvalidInputError


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


def test_batches_are_repeated_and_cut() -> None:
    inputs = {"x": torch.arange(6.0).reshape(3, 2), "scale": torch.tensor(2.0), "flag": True}
    assert batch_of(inputs) == 3
    larger = with_batch(inputs, 5)
    assert larger["x"][:, 0].tolist() == [0, 2, 4, 0, 2]
    assert with_batch(inputs, 1)["x"].shape == (1, 2)
    assert larger["scale"].item() == 2.0
    assert larger["flag"] is True


def test_inputs_without_a_batch_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no tensor with a batch dimension"):
        batch_of((torch.tensor(1.0), 3))
