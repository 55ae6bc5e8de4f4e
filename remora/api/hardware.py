"""From a name, plain values or a record to the hardware that is planned for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from remora.api.configs import load_config
from remora.errors import InvalidInputError
from remora.hardware.hardware import Hardware
from remora.hardware.load import HOST_POOLS, hardware_from_mapping
from remora.hardware.local import device_name, measure_local

__all__ = ["LOCAL", "find_hardware", "is_local"]

LOCAL = "local"


def find_hardware(
    hardware: str | Mapping[str, Any] | Hardware, host_pool: str | None = None
) -> Hardware:
    """Return the record of a hardware.

    Args:
        hardware: ``"local"`` for this machine, a name of ``remora/conf/hardware``, the values
            of such a file, or a record, which is returned as it is.
        host_pool: overrides ``host.pool``: ``pinned``, ``emulated`` or ``none``.

    Raises:
        UnknownNameError: no such name, or no such key.
        InvalidInputError: a value is not allowed.
    """
    if isinstance(hardware, Hardware):
        return hardware
    values = load_config("hardware", hardware) if isinstance(hardware, str) else hardware
    if values.get("name") == LOCAL:
        return _local(values, host_pool)
    if host_pool is not None and host_pool not in HOST_POOLS:
        raise InvalidInputError(
            f"hardware.host_pool is {host_pool!r}, allowed: {', '.join(HOST_POOLS)}"
        )
    record = hardware_from_mapping(values)
    if host_pool is None:
        return record
    return replace(record, host=replace(record.host, pool=host_pool))


def is_local(hardware: str | Mapping[str, Any] | Hardware) -> bool:
    """Whether the argument means the machine at hand; only that one can be measured."""
    if isinstance(hardware, Hardware):
        return hardware.name == device_name()
    name = hardware if isinstance(hardware, str) else hardware.get("name")
    return name == LOCAL


def _local(values: Mapping[str, Any], host_pool: str | None) -> Hardware:
    extra = sorted(set(values) - {"name"})
    if extra:
        raise InvalidInputError(
            f"hardware.{extra[0]} is {values[extra[0]]!r}, allowed: nothing, since hardware "
            "'local' is measured; give another hardware or leave the key out"
        )
    return measure_local(host_pool=host_pool)
