"""Measures this machine once, keeps the result on disk, and reads free memory every time."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from remora.errors import InvalidInputError, UsageError
from remora.hardware.cache import cache_folder, cache_key, read_json, warn_corrupt, write_json
from remora.hardware.hardware import Hardware, HardwareState
from remora.hardware.load import HOST_POOLS, hardware_from_mapping
from remora.hardware.memory import free_memory_bytes

__all__ = ["device_name", "local_device_type", "measure_local"]

_FORMAT = 2


def measure_local(force: bool = False, host_pool: str | None = None) -> Hardware:
    """Describe the device at hand: the first CUDA device if there is one, else the CPU.

    Rates are measured once (a few seconds) and then read from the cache; free memory is read
    every time.

    Args:
        force: measure again even if the cache has an answer.
        host_pool: overrides ``host.pool``: ``pinned``, ``emulated`` or ``none``. None means
            ``pinned`` on CUDA and ``none`` on a CPU, where host and device are one memory.

    Returns:
        The record, with the free memory of this moment as its state.

    Raises:
        InvalidInputError: ``host_pool`` is not one of the allowed names.
    """
    if host_pool is not None and host_pool not in HOST_POOLS:
        raise InvalidInputError(
            f"hardware.host_pool is {host_pool!r}, allowed: {', '.join(HOST_POOLS)}"
        )
    path = _cache_file()
    hardware = None if force else _read(path)
    if hardware is None:
        hardware = _measure()
        write_json(path, {"format": _FORMAT, "hardware": _as_values(hardware)})
    if host_pool is not None:
        hardware = replace(hardware, host=replace(hardware.host, pool=host_pool))
    state = HardwareState(free_memory_bytes(hardware.device_type))
    return replace(hardware, state=state)


def local_device_type() -> str:
    """Return ``cuda`` if a CUDA device is usable here, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    """Return the marketing name of the device that :func:`measure_local` describes."""
    if local_device_type() == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return _cpu_name()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "cpu"


def _cache_file() -> Path:
    import torch

    key = cache_key(
        device_name(), platform.node(), torch.__version__, torch.get_num_threads(), _FORMAT
    )
    return cache_folder() / "hardware" / f"{key}.json"


def _read(path: Path) -> Hardware | None:
    values = read_json(path)
    if values is None:
        return None
    if values.get("format") != _FORMAT:
        warn_corrupt(path, f"its format is {values.get('format')!r}, expected {_FORMAT}")
        return None
    try:
        return hardware_from_mapping(values["hardware"])
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        warn_corrupt(path, str(error))
        return None


def _measure() -> Hardware:
    if local_device_type() == "cuda":
        from remora.hardware.measure_cuda import measure_cuda

        return measure_cuda(device_name())
    from remora.hardware.measure_cpu import measure_cpu

    return measure_cpu(device_name())


def _as_values(hardware: Hardware) -> dict[str, Any]:
    values = asdict(replace(hardware, flops_per_s=dict(hardware.flops_per_s)))
    del values["state"]
    return values
