"""The state of this machine: free memory every time, link rates once per process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remora.hardware import live
from remora.hardware.hardware import Hardware, HostLink, Link
from remora.hardware.live import LiveRates, live_rates, live_state


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    live_rates.cache_clear()
    yield
    live_rates.cache_clear()


def hardware(copy_bytes_per_s: float = 1e9, link_bytes_per_s: float = 4e9) -> Hardware:
    link = Link(link_bytes_per_s, 1e-6)
    host = HostLink(2**34, copy_bytes_per_s, copy_bytes_per_s, 1e-6, 1, False, "pinned")
    return Hardware("x", "cpu", 2, 2**34, 0, {"float32": 1e11}, 1e10, 1e-6, host, link, link)


def fake(monkeypatch: pytest.MonkeyPatch, *rates: LiveRates) -> list[LiveRates]:
    left = list(rates)
    monkeypatch.setattr(live, "_cpu_rates", lambda: left.pop(0))
    monkeypatch.setattr(live, "free_memory_bytes", lambda device_type: 4242)
    return left


def test_shares_are_live_over_nominal_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, LiveRates(0.9e9, 0.62e9, 2e9))
    state = live_state(hardware())
    assert state.free_memory_bytes == 4242
    assert state.host_link_share == 0.62
    assert state.link_share == 0.5


def test_a_lone_device_has_links_as_busy_as_that_to_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(monkeypatch, LiveRates(0.5e9, 0.5e9))
    assert live_state(hardware()).link_share == 0.5


def test_a_faster_copy_is_no_more_than_nominal(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, LiveRates(3e9, 3e9))
    assert live_state(hardware()).host_link_share == 1.0


def test_links_are_measured_once_unless_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, LiveRates(0.5e9, 0.5e9), LiveRates(0.25e9, 0.25e9))
    assert live_state(hardware()).host_link_share == 0.5
    assert live_state(hardware()).host_link_share == 0.5
    assert live_state(hardware(), again=True).host_link_share == 0.25


def test_copies_of_this_machine_have_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_COPY_BYTES", 1 << 20)
    rates = live_rates("cpu")
    assert rates.d2h_bytes_per_s > 1e7
    assert rates.link_bytes_per_s is None


def test_a_full_memory_leaves_the_nominal_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "free_memory_bytes", lambda device_type="cpu": 1000)
    assert live_state(hardware()).host_link_share == 1.0


@pytest.mark.gpu
def test_copies_of_a_gpu_have_a_rate() -> None:
    rates = live_rates("cuda")
    assert min(rates.d2h_bytes_per_s, rates.h2d_bytes_per_s) > 1e8
