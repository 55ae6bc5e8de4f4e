"""How much memory this machine has and how much of it is free right now."""

from __future__ import annotations

from pathlib import Path

__all__ = ["free_memory_bytes", "host_memory_bytes"]

# A container may be allowed less than the machine has: control groups version 2, then 1.
_LIMIT_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def host_memory_bytes() -> int:
    """Return the memory that processes of this machine (or container) may use together."""
    total, _ = _machine_memory_bytes()
    limits = _container_limit_and_usage()
    return total if limits is None else min(total, limits[0])


def free_memory_bytes(device_type: str = "cpu") -> int:
    """Return the bytes that this process could have on the current device of this type.

    On CUDA those that it has reserved already are among them, since they are its own to use again;
    on a CPU they are not.
    """
    if device_type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0]) + int(torch.cuda.memory_reserved())
    _, available = _machine_memory_bytes()
    limits = _container_limit_and_usage()
    return available if limits is None else max(0, min(available, limits[0] - limits[1]))


def _machine_memory_bytes() -> tuple[int, int]:
    """Return total and available bytes; where psutil is not installed, as Linux tells them."""
    try:
        import psutil
    except ImportError:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
        return kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _container_limit_and_usage() -> tuple[int, int] | None:
    for limit_file, usage_file in _LIMIT_FILES:
        try:
            limit, usage = limit_file.read_text(), usage_file.read_text()
        except OSError:
            continue
        return (int(limit), int(usage)) if limit.strip() != "max" else None
    return None
