from __future__ import annotations

import pytest

from remora.report.wording import (
    bytes_scale,
    bytes_text,
    compared_text,
    duration_text,
    kind_text,
    overhead_text,
    percent_text,
    ranges_text,
    time_scale,
)
from remora.schedule.program import InstructionKind


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (2048, "2.00 KiB"),
        (3 * 2**20, "3.00 MiB"),
        (2**33, "8.00 GiB"),
    ],
)
def test_bytes(num_bytes: int, text: str) -> None:
    assert bytes_text(num_bytes) == text


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(2.0, "2.00 s"), (0.0125, "12.50 ms"), (4.2e-6, "4.20 us"), (0.0, "0.00 us")],
)
def test_durations(time_s: float, text: str) -> None:
    assert duration_text(time_s) == text


def test_overheads_and_shares() -> None:
    assert overhead_text(1.1, 1.0) == "+10.0 %"
    assert overhead_text(0.5, 1.0) == "-50.0 %"
    assert overhead_text(1.0, 0.0) == "-"
    assert overhead_text(1 - 1e-9, 1.0) == "+0.0 %"
    assert percent_text(0.125) == "12.5 %"


def test_comparisons_read_as_words() -> None:
    assert compared_text(1.1, 1.0) == "10.0 % more than"
    assert compared_text(0.5, 1.0) == "50.0 % less than"
    assert compared_text(1 - 1e-9, 1.0) == "as long as"
    assert compared_text(1.0, 0.0) == "not to be compared with"


def test_scales_suit_the_largest_value() -> None:
    assert time_scale(2.0) == (1.0, "s")
    assert time_scale(0.02) == (1e3, "ms")
    assert time_scale(0.0) == (1e6, "us")
    assert bytes_scale(3 * 2**20) == (2.0**20, "MiB")
    assert bytes_scale(0) == (1.0, "B")


def test_kinds_and_ranges() -> None:
    assert kind_text(InstructionKind.BACKWARD_WEIGHT) == "backward weight"
    assert ranges_text([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert ranges_text([]) == ""


def test_what_never_ends_has_no_length() -> None:
    assert duration_text(float("inf")) == "-"
    assert overhead_text(float("inf"), 1.0) == "-"
