"""From the values of a configuration to a validated :class:`Hardware`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from remora.errors import InvalidInputError, UnknownNameError
from remora.hardware.hardware import Hardware, HostLink, Link

__all__ = ["DTYPES", "HOST_POOLS", "hardware_from_mapping"]

DTYPES = ("float64", "float32", "tfloat32", "bfloat16", "float16", "float8", "int8")
DEVICE_TYPES = ("cpu", "cuda")
HOST_POOLS = ("pinned", "emulated", "none")

_HARDWARE_KEYS = (
    "name",
    "device_type",
    "devices_per_node",
    "memory_bytes",
    "context_bytes",
    "flops_per_s",
    "memory_bandwidth_bytes_per_s",
    "kernel_launch_s",
    "host",
    "link",
    "node_link",
)
_HOST_KEYS = (
    "memory_bytes",
    "d2h_bytes_per_s",
    "h2d_bytes_per_s",
    "latency_s",
    "ranks_per_link",
    "unified",
    "pool",
)
_LINK_KEYS = ("bandwidth_bytes_per_s", "latency_s")


def hardware_from_mapping(values: Mapping[str, object]) -> Hardware:
    """Read one kind of device from plain values, as they stand in ``conf/hardware``.

    Args:
        values: the keys of :class:`Hardware` without ``state``; ``host``, ``link`` and
            ``node_link`` are mappings of their own.

    Returns:
        The validated record; its state is None, which means as new.

    Raises:
        UnknownNameError: a key or dtype is not known; the message names the closest ones.
        InvalidInputError: a key is missing or a value is not allowed.
    """
    top = _Section("hardware", values, _HARDWARE_KEYS)
    memory_bytes = top.count("memory_bytes", minimum=1)
    context_bytes = top.count("context_bytes")
    if context_bytes >= memory_bytes:
        raise InvalidInputError(
            f"hardware.context_bytes is {context_bytes}, "
            f"allowed: less than memory_bytes ({memory_bytes})"
        )
    return Hardware(
        name=top.text("name"),
        device_type=top.choice("device_type", DEVICE_TYPES),
        devices_per_node=top.count("devices_per_node", minimum=1),
        memory_bytes=memory_bytes,
        context_bytes=context_bytes,
        flops_per_s=_rates(top.section("flops_per_s", DTYPES)),
        memory_bandwidth_bytes_per_s=top.rate("memory_bandwidth_bytes_per_s"),
        kernel_launch_s=top.duration("kernel_launch_s"),
        host=_host_link(top.section("host", _HOST_KEYS)),
        link=_link(top.section("link", _LINK_KEYS)),
        node_link=_link(top.section("node_link", _LINK_KEYS)),
    )


def _rates(section: _Section) -> dict[str, float]:
    if "float32" not in section.values:
        raise InvalidInputError(
            "hardware.flops_per_s has no entry for float32, which other dtypes fall back to"
        )
    return {dtype: section.rate(dtype) for dtype in section.values}


def _host_link(section: _Section) -> HostLink:
    return HostLink(
        memory_bytes=section.count("memory_bytes"),
        d2h_bytes_per_s=section.rate("d2h_bytes_per_s"),
        h2d_bytes_per_s=section.rate("h2d_bytes_per_s"),
        latency_s=section.duration("latency_s"),
        ranks_per_link=section.count("ranks_per_link", minimum=1),
        unified=section.flag("unified"),
        pool=section.choice("pool", HOST_POOLS),
    )


def _link(section: _Section) -> Link:
    return Link(
        bandwidth_bytes_per_s=section.rate("bandwidth_bytes_per_s"),
        latency_s=section.duration("latency_s"),
    )


class _Section:
    """One mapping of the configuration, read field by field with errors that name the field."""

    def __init__(self, path: str, values: Mapping[str, object], keys: tuple[str, ...]) -> None:
        for key in values:
            if key not in keys:
                raise UnknownNameError(f"key in {path}", str(key), keys)
        self.path = path
        self.values = values

    def section(self, key: str, keys: tuple[str, ...]) -> _Section:
        value = self._value(key)
        if not isinstance(value, Mapping):
            raise self._refused(key, value, "a mapping with the keys " + ", ".join(keys))
        return _Section(f"{self.path}.{key}", value, keys)

    def text(self, key: str) -> str:
        value = self._value(key)
        if not isinstance(value, str) or not value:
            raise self._refused(key, value, "a text that is not empty")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self._value(key)
        if value not in allowed:
            raise self._refused(key, value, ", ".join(allowed))
        return str(value)

    def flag(self, key: str) -> bool:
        value = self._value(key)
        if not isinstance(value, bool):
            raise self._refused(key, value, "true or false")
        return value

    def count(self, key: str, minimum: int = 0) -> int:
        value = self._number(key, f"a whole number of at least {minimum}")
        if value < minimum or value != int(value):
            raise self._refused(key, value, f"a whole number of at least {minimum}")
        return int(value)

    def rate(self, key: str) -> float:
        value = self._number(key, "a number above 0")
        if value <= 0:
            raise self._refused(key, value, "a number above 0")
        return value

    def duration(self, key: str) -> float:
        value = self._number(key, "a number of at least 0")
        if value < 0:
            raise self._refused(key, value, "a number of at least 0")
        return value

    def _number(self, key: str, allowed: str) -> float:
        value = self._value(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self._refused(key, value, allowed)
        return float(value)

    def _value(self, key: str) -> object:
        if key not in self.values:
            raise InvalidInputError(f"{self.path}.{key} is missing")
        return self.values[key]

    def _refused(self, key: str, value: object, allowed: str) -> InvalidInputError:
        return InvalidInputError(f"{self.path}.{key} is {value!r}, allowed: {allowed}")
