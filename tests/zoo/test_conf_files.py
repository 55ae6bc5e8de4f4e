"""The YAML of models and hardware: names, keys, plausible values."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from remora.zoo.registry import ARCHITECTURES
from tests.zoo.model_files import CONF, FULL, TINY, load, names

HARDWARE = (
    "4xa100",
    "8xa100",
    "8xa100_pcie",
    "8xh100",
    "8xl4",
    "8xrtx4090",
    "a100_40g",
    "a100_80g",
    "gh200",
    "h100_sxm",
    "h200",
    "laptop_8g",
    "rtx3090",
    "rtx4090",
    "v100_16g",
)
LINK_KEYS = {"bandwidth_bytes_per_s", "latency_s"}
HOST_KEYS = {
    "memory_bytes",
    "d2h_bytes_per_s",
    "h2d_bytes_per_s",
    "latency_s",
    "ranks_per_link",
    "unified",
    "pool",
}
HARDWARE_KEYS = {
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
}


def test_the_files_are_the_promised_ones() -> None:
    assert names("model") == sorted([*TINY, *FULL, "calibration", "custom"])
    assert names("hardware") == sorted([*HARDWARE, "local"])


@pytest.mark.parametrize("group", ["model", "hardware"])
def test_names_match_files_and_both_readers_agree(group: str) -> None:
    for name in names(group):
        plain = load(group, name)
        assert plain["name"] == name
        assert OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml")) == plain


def test_model_files_hold_a_target_of_the_zoo_and_values() -> None:
    for name in (*TINY, *FULL):
        content = load("model", name)
        assert list(content) == ["name", "target", "values"]
        assert content["target"] in ARCHITECTURES.values()
        assert content["values"]["batch"] >= 1
    assert load("model", "custom") == {"name": "custom", "target": "", "values": {}}


def test_the_local_file_leaves_everything_to_measurement() -> None:
    assert load("hardware", "local") == {"name": "local"}


def _numbers(content: dict[str, Any]) -> list[float]:
    nested = [_numbers(value) for value in content.values() if isinstance(value, dict)]
    own = [v for v in content.values() if isinstance(v, int | float) and not isinstance(v, bool)]
    return own + [number for part in nested for number in part]


@pytest.mark.parametrize("name", HARDWARE)
def test_hardware_has_the_keys_of_the_schema_and_plausible_values(name: str) -> None:
    content = load("hardware", name)
    assert set(content) == HARDWARE_KEYS
    assert set(content["host"]) == HOST_KEYS
    assert set(content["link"]) == set(content["node_link"]) == LINK_KEYS
    optional = {"tfloat32", "float8", "int8"}
    assert set(content["flops_per_s"]) - optional == {"float32", "bfloat16", "float16"}
    assert content["device_type"] == "cuda"
    assert content["host"]["pool"] == "pinned"
    assert all(isinstance(content[key], int) for key in ("memory_bytes", "context_bytes"))
    assert all(number > 0 for number in _numbers(content))
    assert content["flops_per_s"]["float16"] >= content["flops_per_s"]["float32"]
    assert content["memory_bandwidth_bytes_per_s"] > content["link"]["bandwidth_bytes_per_s"]
    assert content["link"]["bandwidth_bytes_per_s"] >= content["node_link"]["bandwidth_bytes_per_s"]
    assert content["host"]["ranks_per_link"] <= content["devices_per_node"]
