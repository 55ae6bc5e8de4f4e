"""Compile the kernels on a tiny model; later processes find them in numba's cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from remora.envs.batch import EpisodeBatch
from remora.envs.jit import note_compiled
from remora.envs.observation import JointSize
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import JointSampler
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware, HostLink, Link
from remora.schedule.costs import CostTable
from remora.schedule.problem import OPTIMIZERS, Problem

__all__ = ["compile_kernels"]


def compile_kernels() -> None:
    """Take one step of an episode of each kind, which compiles all that is not in the cache."""
    graph = trace(nn.Linear(2, 2), (torch.zeros(1, 2),))
    link = Link(bandwidth_bytes_per_s=1.0, latency_s=0.0)
    costs = CostTable(
        source="none",
        op_time_s=(1.0,) * len(graph.ops),
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
    for ranks in (1, 2):
        problem = Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["adamw"], 0, ranks)
        tables = ProblemTables("tiny", problem)
        batch = EpisodeBatch(JointSampler([tables]), 1, JointSize(4, 8))
        batch.begin(0, 0, tables.keep_all_bytes + tables.least_bytes)
        batch.step(np.array([0]))
    note_compiled()
