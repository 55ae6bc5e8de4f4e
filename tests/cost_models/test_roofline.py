"""Roofline figures against a computation by hand."""

from __future__ import annotations

import dataclasses

import pytest

from remora.cost_models.roofline import (
    BANDWIDTH_EFFICIENCY,
    HOST_BANDWIDTH_BYTES_PER_S,
    MATRIX_EFFICIENCY,
    roofline_costs,
)
from remora.graph.signature import op_signature
from remora.hardware.hardware import HardwareState
from remora.schedule.problem import OPTIMIZERS
from tests.cost_models.hand_graph import NUM_BYTES, WIDTH, hand_graph, hand_hardware


def test_arithmetic_bound_operator() -> None:
    costs = roofline_costs(hand_graph(), hand_hardware())
    expected_s = 2 * WIDTH**3 / (1e12 * MATRIX_EFFICIENCY) + 1e-6
    assert costs.source == "roofline"
    assert costs.op_time_s == pytest.approx((expected_s, expected_s, 0.0, 0.0))


def test_traffic_bound_operator() -> None:
    hardware = dataclasses.replace(hand_hardware(), flops_per_s={"float32": 1e15})
    costs = roofline_costs(hand_graph(), hardware)
    expected_s = 3 * NUM_BYTES / (1e11 * BANDWIDTH_EFFICIENCY) + 1e-6
    assert costs.op_time_s[0] == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("dtype", "rate"), [("bfloat16", 1e13), ("float16", 1e12), ("float64", 5e11)]
)
def test_rate_follows_the_dtype(dtype: str, rate: float) -> None:
    costs = roofline_costs(hand_graph(dtype), hand_hardware())
    arithmetic_s = 2 * WIDTH**3 / (rate * MATRIX_EFFICIENCY)
    assert costs.op_time_s[0] == pytest.approx(arithmetic_s + 1e-6)


def test_known_workspace_is_used() -> None:
    graph = hand_graph()
    workspaces = {op_signature(graph, graph.ops[0]): 77}
    costs = roofline_costs(graph, hand_hardware(), workspaces=workspaces)
    assert costs.op_workspace_bytes == (77, 0, 0, 0)


def test_host_copies_follow_the_live_link() -> None:
    hardware = dataclasses.replace(hand_hardware(), state=HardwareState(10**9, 0.5))
    costs = roofline_costs(hand_graph(), hardware)
    assert (costs.d2h_bytes_per_s, costs.h2d_bytes_per_s) == (1e9, 1.5e9)
    assert costs.copy_latency_s == 1e-5


def test_granularity_by_device() -> None:
    cuda = hand_hardware()
    cpu = dataclasses.replace(cuda, device_type="cpu")
    assert roofline_costs(hand_graph(), cuda).allocation_granularity_bytes == 512
    assert roofline_costs(hand_graph(), cpu).allocation_granularity_bytes == 1


def test_optimizers_by_traffic() -> None:
    times = {
        name: roofline_costs(hand_graph(), hand_hardware(), name).optimizer_time_s
        for name in ("adamw", "sgd_momentum", "sgd", "none")
    }
    assert times["adamw"] > times["sgd_momentum"] > times["sgd"] > times["none"] == 0.0
    expected_s = 3 * NUM_BYTES / (1e11 * BANDWIDTH_EFFICIENCY) + 1e-6
    assert times["sgd"] == pytest.approx(expected_s)


def test_every_optimizer_has_a_time() -> None:
    for name in OPTIMIZERS:
        costs = roofline_costs(hand_graph(), hand_hardware(), name)
        assert (costs.optimizer_time_s > 0) == OPTIMIZERS[name].counted


def test_the_host_steps_at_its_own_bandwidth() -> None:
    gpu, cpu = hand_hardware(), dataclasses.replace(hand_hardware(), device_type="cpu")
    costs = roofline_costs(hand_graph(), gpu, "sgd")
    expected_s = 3 * NUM_BYTES / (HOST_BANDWIDTH_BYTES_PER_S * BANDWIDTH_EFFICIENCY)
    assert costs.host_optimizer_time_s == pytest.approx(expected_s)
    costs = roofline_costs(hand_graph(), cpu, "sgd")
    assert costs.host_optimizer_time_s == costs.optimizer_time_s


def test_compression_is_bound_by_the_memory() -> None:
    slow = roofline_costs(hand_graph(), hand_hardware())
    fast = roofline_costs(
        hand_graph(), dataclasses.replace(hand_hardware(), memory_bandwidth_bytes_per_s=2e11)
    )
    assert fast.compress_bytes_per_s == pytest.approx(2 * slow.compress_bytes_per_s)
    assert fast.restore_bytes_per_s == pytest.approx(2 * slow.restore_bytes_per_s)
    assert slow.compress_bytes_per_s < slow.restore_bytes_per_s < 1e11
