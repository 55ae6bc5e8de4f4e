"""Predicted against measured peak: the simulator from a fake trace, the executor for real."""

from __future__ import annotations

import copy

import pytest
import torch

from remora.executor.measure import measure_step
from remora.executor.memory.install import apply
from remora.executor.replay.workspace import measure_workspace
from remora.executor.step import preserved
from remora.graph.model_graph import ModelGraph
from remora.graph.signature import op_signature
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware, HostLink, Link
from remora.schedule.problem import OPTIMIZERS, CostTable, Problem
from remora.schedule.schedule import Action
from remora.simulator.simulate import simulate
from remora.zoo.registry import build_target
from tests.executor.memory.plans import random_schedule, schedule
from tests.executor.memory.test_gradients import REQUIRED
from tests.executor.state.plans import random_state, with_state
from tests.zoo.model_files import load

TOLERANCE = 0.02
STATE_TOLERANCE = 0.02

_LINK = Link(1e9, 0.0)
_HARDWARE = Hardware(
    name="here",
    device_type="cpu",
    devices_per_node=1,
    memory_bytes=1 << 40,
    context_bytes=0,
    flops_per_s={"float32": 1e10},
    memory_bandwidth_bytes_per_s=1e10,
    kernel_launch_s=0.0,
    host=HostLink(1 << 40, 1e10, 1e10, 0.0, 1, unified=True, pool="emulated"),
    link=_LINK,
    node_link=_LINK,
)


def peak_problem(graph: ModelGraph) -> Problem:
    """Costs do not matter for the peak, workspace inside operators does."""
    signatures = [op_signature(graph, op) for op in graph.ops]
    workspaces, _ = measure_workspace(graph, set(signatures), torch.device("cpu"))
    costs = CostTable(
        source="test",
        op_time_s=(0.0,) * len(graph.ops),
        op_workspace_bytes=tuple(workspaces.get(signature, 0) for signature in signatures),
        d2h_bytes_per_s=1e10,
        h2d_bytes_per_s=1e10,
        copy_latency_s=0.0,
        optimizer_time_s=0.0,
        allocation_granularity_bytes=1,
    )
    world_size = graph.tensor_degree
    return Problem({1: graph}, {1: costs}, _HARDWARE, OPTIMIZERS["adamw"], 1 << 60, world_size)


def _check(name: str, seeds: range) -> None:
    config = load("model", name)
    example = build_target(config["target"], config["values"])
    graph = trace(copy.deepcopy(example.model), example.example_inputs, example.loss)
    problem = peak_problem(graph)
    plans = {"recompute": schedule(graph, Action.RECOMPUTE)}
    plans |= {f"random {seed}": random_schedule(graph, seed) for seed in seeds}
    for label, plan in plans.items():
        predicted = simulate(problem, plan).max_peak_bytes
        with preserved(example.model), apply(example.model, graph, plan):
            measured = measure_step(
                example.model, example.example_inputs, example.loss, repetitions=3
            )
        assert measured.status == "ok", measured.detail
        assert predicted == pytest.approx(measured.peak_memory_bytes, rel=TOLERANCE), (
            f"{name} under {label}: {plan.memory}"
        )


@pytest.mark.parametrize("name", ["gpt2_tiny", "unet_tiny"])
def test_peak_of_random_mixes(name: str) -> None:
    _check(name, range(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", REQUIRED)
def test_peak_of_many_random_mixes(name: str) -> None:
    _check(name, range(100, 120))


def _check_state(name: str, seeds: range) -> None:
    config = load("model", name)
    example = build_target(config["target"], config["values"])
    graph = trace(copy.deepcopy(example.model), example.example_inputs, example.loss)
    problem = peak_problem(graph)
    for seed in seeds:
        plan = with_state(random_schedule(graph, seed), random_state(graph, seed))
        predicted = simulate(problem, plan).max_peak_bytes
        with preserved(example.model), apply(example.model, graph, plan) as handle:
            measured = measure_step(
                example.model, example.example_inputs, example.loss, repetitions=3, handle=handle
            )
        assert measured.status == "ok", measured.detail
        assert predicted == pytest.approx(measured.peak_memory_bytes, rel=STATE_TOLERANCE), (
            f"{name} under {plan.state} and {plan.memory}"
        )


@pytest.mark.parametrize("name", ["gpt2_tiny", "t5_tiny"])
def test_peak_with_state_on_the_host(name: str) -> None:
    _check_state(name, range(4))


@pytest.mark.slow
@pytest.mark.parametrize("name", REQUIRED)
def test_peak_of_many_state_plans(name: str) -> None:
    _check_state(name, range(100, 115))
