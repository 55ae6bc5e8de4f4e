from __future__ import annotations

import pytest

from remora.report.wording import bytes_text, duration_text, overhead_text, percent_text


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
