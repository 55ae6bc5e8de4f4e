"""Measuring this machine: once, then from the cache; free memory every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from remora.errors import InvalidInputError
from remora.hardware import local, measure_cpu
from remora.hardware.hardware import Hardware
from remora.hardware.memory import free_memory_bytes, host_memory_bytes


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REMORA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(local, "local_device_type", lambda: "cpu")
    monkeypatch.setattr(measure_cpu, "_LARGEST_SIDE", 256)
    monkeypatch.setattr(measure_cpu, "_COPY_BYTES", 1 << 20)


def cache_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_figures_are_physical(tmp_path: Path) -> None:
    hardware = local.measure_local()
    assert hardware.device_type == "cpu"
    assert hardware.flops_per_s["float32"] > 1e8
    assert hardware.memory_bandwidth_bytes_per_s == pytest.approx(2 * hardware.host.d2h_bytes_per_s)
    assert 0 < hardware.kernel_launch_s < 1e-2
    assert hardware.host.unified
    assert not hardware.can_offload
    assert 0 < hardware.free_memory_bytes <= hardware.memory_bytes == host_memory_bytes()
    assert len(cache_files(tmp_path)) == 1


def test_second_call_reads_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    first = local.measure_local()

    def fail(name: str) -> Hardware:
        raise AssertionError("measured again")

    monkeypatch.setattr(measure_cpu, "measure_cpu", fail)
    second = local.measure_local(host_pool="emulated")
    assert second.flops_per_s == first.flops_per_s
    assert second.can_offload
    with pytest.raises(AssertionError, match="measured again"):
        local.measure_local(force=True)


def test_free_memory_is_read_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    local.measure_local()
    monkeypatch.setattr(local, "free_memory_bytes", lambda device_type: 4242)
    assert local.measure_local().free_memory_bytes == 4242


@pytest.mark.parametrize("text", ["{", "[1]", '{"format": 99}', '{"format": 1, "hardware": {}}'])
def test_corrupt_cache_is_named_and_measured_anew(tmp_path: Path, text: str) -> None:
    local.measure_local()
    (path,) = cache_files(tmp_path)
    path.write_text(text)
    with pytest.warns(RuntimeWarning, match=path.name):
        hardware = local.measure_local()
    assert hardware.flops_per_s["float32"] > 1e8
    assert local.measure_local().flops_per_s == hardware.flops_per_s


def test_unknown_pool_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="emulated"):
        local.measure_local(host_pool="emulate")


def test_free_memory_is_below_the_whole() -> None:
    assert 0 < free_memory_bytes() < host_memory_bytes()
