from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.api.budget import Budget, BudgetKind, parse_budget, resolve_budget
from remora.api.hardware import find_hardware
from remora.errors import InvalidInputError

HARDWARE = find_hardware("rtx3090")


@pytest.mark.parametrize(
    ("memory", "num_bytes"),
    [
        (1024, 1024),
        ("1024", 1024),
        ("8GiB", 8 * 2**30),
        ("8 gib", 8 * 2**30),
        ("1.5MiB", 1.5 * 2**20),
        ("500MB", 500e6),
        ("1e9", 1e9),
        ("2TB", 2e12),
        ("7b", 7),
    ],
)
def test_sizes(memory: int | str, num_bytes: float) -> None:
    assert parse_budget(memory) == Budget(BudgetKind.BYTES, num_bytes)


def test_shares_ranges_and_the_default() -> None:
    assert parse_budget("60%") == Budget(BudgetKind.SHARE, 0.6)
    assert parse_budget("range:0.4") == Budget(BudgetKind.RANGE, 0.4)
    assert parse_budget(None) == Budget(BudgetKind.FREE, 0.0)


NO_BUDGETS = """
    GiB 8XiB -1 0 -8GiB 0% nan% range: range:1.1 range:-0.1 range:nan inf 1.2.3GiB eight sweep
"""


@pytest.mark.parametrize("memory", ["", *NO_BUDGETS.split()])
def test_anything_else_is_refused_with_what_is_allowed(memory: str) -> None:
    with pytest.raises(InvalidInputError, match=r"memory is .*, allowed: bytes such as"):
        parse_budget(memory)


@given(st.floats(0, 1), st.integers(1, 2**40), st.integers(0, 2**40))
def test_a_range_lies_between_its_ends(point: float, low: int, width: int) -> None:
    budget = parse_budget(f"range:{point!r}")
    high = low + width
    num_bytes = resolve_budget(budget, HARDWARE, lambda: high, lambda: low)
    assert low <= num_bytes <= high
    if point in (0, 1):
        assert num_bytes == (low if point == 0 else high)


def test_bytes_ask_for_no_peak() -> None:
    def fail() -> int:
        raise AssertionError

    assert resolve_budget(parse_budget("1MiB"), HARDWARE, fail, fail) == 2**20
    free = resolve_budget(parse_budget(None), HARDWARE, fail, fail)
    assert free == int(HARDWARE.free_memory_bytes * 0.95)
    assert resolve_budget(parse_budget("50%"), HARDWARE, lambda: 1000, fail) == 500
