"""The smallest problem there is, on which kernels are compiled."""

from __future__ import annotations

import torch
from torch import nn

from remora.graph.trace import trace
from remora.hardware.hardware import Hardware, HostLink, Link
from remora.schedule.costs import CostTable
from remora.schedule.problem import OPTIMIZERS, Problem

__all__ = ["tiny_problem"]


def tiny_problem(op_time_s: float, world_size: int = 1) -> Problem:
    """One linear layer on devices of which nothing matters.

    Args:
        op_time_s: seconds of every operator.
        world_size: number of devices.
    """
    graph = trace(nn.Linear(2, 2), (torch.zeros(1, 2),))
    link = Link(bandwidth_bytes_per_s=1.0, latency_s=0.0)
    costs = CostTable(
        source="none",
        op_time_s=(op_time_s,) * len(graph.ops),
        op_workspace_bytes=(0,) * len(graph.ops),
        d2h_bytes_per_s=1.0,
        h2d_bytes_per_s=1.0,
        copy_latency_s=0.0,
        optimizer_time_s=0.0,
        allocation_granularity_bytes=1,
    )
    hardware = Hardware(
        name="any",
        device_type="cpu",
        devices_per_node=1,
        memory_bytes=1,
        context_bytes=0,
        flops_per_s={},
        memory_bandwidth_bytes_per_s=1.0,
        kernel_launch_s=0.0,
        host=HostLink(1, 1.0, 1.0, 0.0, 1, True, "none"),
        link=link,
        node_link=link,
    )
    return Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["adamw"], 0, world_size)
