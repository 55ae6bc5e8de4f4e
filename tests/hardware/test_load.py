"""Hardware from plain values: what is read, and what is refused with which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from remora.errors import InvalidInputError, UnknownNameError
from remora.hardware.hardware import HardwareState
from remora.hardware.load import hardware_from_mapping

VALUES: dict[str, Any] = {
    "name": "card",
    "device_type": "cuda",
    "devices_per_node": 8,
    "memory_bytes": 80_000_000_000,
    "context_bytes": 600_000_000,
    "flops_per_s": {"float32": 6.7e13, "bfloat16": 9.89e14},
    "memory_bandwidth_bytes_per_s": 3.35e12,
    "kernel_launch_s": 5e-6,
    "host": {
        "memory_bytes": 10**12,
        "d2h_bytes_per_s": 5.5e10,
        "h2d_bytes_per_s": 5.5e10,
        "latency_s": 1e-5,
        "ranks_per_link": 1,
        "unified": False,
        "pool": "pinned",
    },
    "link": {"bandwidth_bytes_per_s": 4.5e11, "latency_s": 5e-6},
    "node_link": {"bandwidth_bytes_per_s": 5e10, "latency_s": 1e-5},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The values with one entry replaced; ``path`` has dots between levels."""
    values = copy.deepcopy(VALUES)
    target = values
    *parents, last = path.split(".")
    for key in parents:
        target = target[key]
    target[last] = value
    return values


def test_every_value_arrives() -> None:
    hardware = hardware_from_mapping(VALUES)
    assert hardware.name == "card"
    assert hardware.devices_per_node == 8
    assert hardware.flops_per_s == VALUES["flops_per_s"]
    assert hardware.host.d2h_bytes_per_s == 5.5e10
    assert hardware.link.bandwidth_bytes_per_s == 4.5e11
    assert hardware.state is None
    assert hardware.free_memory_bytes == 80_000_000_000 - 600_000_000
    assert hardware.can_offload


def test_state_overrides_free_memory() -> None:
    import dataclasses

    hardware = dataclasses.replace(hardware_from_mapping(VALUES), state=HardwareState(123))
    assert hardware.free_memory_bytes == 123


@pytest.mark.parametrize(
    ("path", "close"),
    [("memory_byts", "memory_bytes"), ("host.latncy_s", "latency_s"), ("link.bandwith", "bandw")],
)
def test_unknown_key_names_the_closest(path: str, close: str) -> None:
    with pytest.raises(UnknownNameError, match=close):
        hardware_from_mapping(changed(path, 1))


def test_unknown_dtype_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="bfloat16"):
        hardware_from_mapping(changed("flops_per_s.bflot16", 1e12))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("memory_bytes", 0),
        ("memory_bytes", 1.5),
        ("memory_bytes", "80GB"),
        ("devices_per_node", 0),
        ("context_bytes", -1),
        ("context_bytes", 80_000_000_000),
        ("flops_per_s.float32", 0),
        ("memory_bandwidth_bytes_per_s", -3.0),
        ("memory_bandwidth_bytes_per_s", float("nan")),
        ("kernel_launch_s", -1e-6),
        ("device_type", "tpu"),
        ("host.d2h_bytes_per_s", 0.0),
        ("host.ranks_per_link", True),
        ("host.unified", 1),
        ("host.pool", "pined"),
        ("link.bandwidth_bytes_per_s", float("inf")),
        ("host", 5),
        ("name", ""),
    ],
)
def test_bad_value_is_refused_by_name(path: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=rf"hardware\.{path} is .*allowed: "):
        hardware_from_mapping(changed(path, value))


def test_missing_key_is_named() -> None:
    values = copy.deepcopy(VALUES)
    del values["host"]["pool"]
    with pytest.raises(InvalidInputError, match=r"hardware\.host\.pool is missing"):
        hardware_from_mapping(values)


def test_float32_rate_is_needed() -> None:
    with pytest.raises(InvalidInputError, match="float32"):
        hardware_from_mapping(changed("flops_per_s", {"bfloat16": 1e12}))
