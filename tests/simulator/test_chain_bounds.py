"""The bound of the recompute-only chain against golden optima, exhaustive search and by hand."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.agents.exact.chains.rotor_chain import Chain
from remora.simulator.bounds.chains import RecomputeChain, chain_lower_bound
from tests.agents.exact.chain_replay import cheapest

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "rotor_chains.json").read_text())
SIZES = (
    "forward_time",
    "backward_time",
    "boundary_size",
    "saved_size",
    "forward_workspace",
    "backward_workspace",
)
EQUAL = RecomputeChain(
    forward_time=[1, 1, 1],
    backward_time=[2, 2, 2],
    boundary_size=[1, 1, 1, 1],
    saved_size=[3, 3, 3],
    backward_workspace=[0, 0, 0],
)


def without_solver(record: Mapping[str, Any]) -> RecomputeChain:
    """A golden chain, checked by the solver's record, as the bound's own."""
    chain = Chain(**{name: record[name] for name in SIZES})
    return RecomputeChain(
        chain.forward_time,
        chain.backward_time,
        chain.boundary_size,
        chain.saved_size,
        chain.backward_workspace,
    )


def golden_cases() -> Iterator[tuple[float, float, float]]:
    """(bound, optimum, time without recomputation); the optimum is infinite if nothing fits."""
    for record in GOLDEN:
        chain = without_solver(record)
        for case in record["optima"]:
            optimum = math.inf if case["makespan"] is None else case["makespan"]
            yield chain_lower_bound(chain, case["budget"]), optimum, record["ideal_makespan"]


def test_golden_optima_are_never_below_the_bound_and_mostly_close() -> None:
    cases = list(golden_cases())
    assert all(bound <= optimum * (1 + 1e-9) for bound, optimum, _ in cases)
    assert all(bound >= ideal * (1 - 1e-9) for bound, _, ideal in cases)
    paid = [case for case in cases if case[2] * (1 + 1e-9) < case[1] < math.inf]
    assert len(paid) == 144
    assert all(bound > ideal * (1 + 1e-6) for bound, _, ideal in paid)
    shares = [bound / optimum for bound, optimum, _ in paid]
    assert min(shares) > 0.87
    assert sum(shares) / len(shares) > 0.96
    hopeless = [bound for bound, optimum, _ in cases if math.isinf(optimum)]
    assert len(hopeless) == 24
    assert all(math.isinf(bound) for bound in hopeless)


def test_a_chain_by_hand() -> None:
    # Peaks of the three backwards with everything kept: 3 + 2 gradients + 6 saved + the input.
    assert chain_lower_bound(EQUAL, 12) == pytest.approx(EQUAL.ideal_time)
    # One unit less: a third of a saved set, and of its forward, is the least to pay.
    assert chain_lower_bound(EQUAL, 11) == pytest.approx(EQUAL.ideal_time + 1 / 3)
    assert chain_lower_bound(EQUAL, 6) == math.inf


def numbers(length: int, least: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least, most), min_size=length, max_size=length)


@st.composite
def small_chains(draw: st.DrawFn) -> dict[str, Sequence[float]]:
    stages = draw(st.integers(1, 4))
    return {
        "forward_time": draw(numbers(stages, 0, 6)),
        "backward_time": draw(numbers(stages, 0, 6)),
        "boundary_size": draw(numbers(stages + 1, 0, 4)),
        "saved_size": draw(numbers(stages, 0, 8)),
        "forward_workspace": draw(numbers(stages, 0, 2)),
        "backward_workspace": draw(numbers(stages, 0, 2)),
    }


@given(chain=small_chains(), budget=st.integers(0, 40))
def test_no_sequence_of_operations_is_below_the_bound(
    chain: dict[str, Sequence[float]], budget: int
) -> None:
    fastest = cheapest(chain, budget)
    bound = chain_lower_bound(without_solver(chain), budget)
    assert bound <= (math.inf if fastest is None else fastest + 1e-9)


@given(chain=small_chains())
def test_more_memory_never_raises_the_bound(chain: dict[str, Sequence[float]]) -> None:
    bounds = [chain_lower_bound(without_solver(chain), budget) for budget in range(0, 60, 6)]
    assert all(b <= a * (1 + 1e-9) + 1e-9 for a, b in itertools.pairwise(bounds))
