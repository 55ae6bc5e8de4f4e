"""Compile the solvers' kernels ahead of their first use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from torch import nn, zeros

from remora.agents.registry import create
from remora.cost_models.roofline import roofline_costs
from remora.errors import InfeasibleError
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware, HostLink, Link
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.simulator.floor import floor_peak_bytes

__all__ = ["warm_up"]

_COMPILED = ("rotor", "recompute_offload", "partition")
_LIMIT_S = 300.0


def warm_up() -> None:
    """Solve a tiny problem with every scheduler whose kernels are compiled."""
    problem = _problem()
    tight = replace(problem, budget_bytes=floor_peak_bytes(problem))
    for name in _COMPILED:
        # Where nothing fits, its kernels have run all the same.
        with suppress(InfeasibleError):
            create(name).propose(tight, _LIMIT_S)


def _problem() -> Problem:
    hardware = Hardware(
        name="warm up",
        device_type="cuda",
        devices_per_node=1,
        memory_bytes=2**30,
        context_bytes=0,
        flops_per_s={"float32": 1e12},
        memory_bandwidth_bytes_per_s=1e11,
        kernel_launch_s=1e-6,
        host=HostLink(2**30, 1e10, 1e10, 1e-6, 1, False, "pinned"),
        link=Link(1e10, 1e-6),
        node_link=Link(1e10, 1e-6),
    )
    blocks = [nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(4)]
    graph = trace(nn.Sequential(*blocks), (zeros(256, 64),))
    costs = roofline_costs(graph, hardware)
    return Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["sgd"], 2**30)
