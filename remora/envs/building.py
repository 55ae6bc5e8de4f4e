"""From a drawn problem, its graphs and its hardware to what schedulers are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from remora.cost_models.roofline import roofline_costs
from remora.envs.drawing import ProblemSpec
from remora.envs.variants import variants_of
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware, HardwareState
from remora.schedule.cuts import standard_pipeline
from remora.schedule.inference import InferenceSpec, Mode
from remora.schedule.menu import keep_all_schedule
from remora.schedule.pass_space import PassSpace
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.simulator.compiled import simulator_of
from remora.simulator.floor import floor_schedule

__all__ = ["build_problem", "range_bytes", "worn"]


def build_problem(
    spec: ProblemSpec,
    graphs: Mapping[int, ModelGraph],
    hardware: Hardware,
    inference: InferenceSpec | None = None,
) -> Problem:
    """Give a drawn problem its costs by the roofline, and its budget in bytes.

    Args:
        spec: what was drawn.
        graphs: as traced, by number of micro-batches, among them 1.
        hardware: that of the name in ``spec``, as new.
        inference: tokens and cache, for passes.

    Raises:
        InvalidInputError: there is no pipeline over all ranks that the budget could refer to, or
            the free memory is too small for it.
    """
    device = worn(hardware, spec)
    if spec.spread:
        graphs = variants_of(graphs, spec.spread, spec.model_seed)
    problem = Problem(
        graphs,
        {count: roofline_costs(graph, device, spec.optimizer) for count, graph in graphs.items()},
        device,
        OPTIMIZERS[spec.optimizer],
        device.free_memory_bytes,
        spec.world_size,
        spec.micro_batches,
        inference=inference,
    )
    low, high = range_bytes(problem)
    budget_bytes = low + math.ceil(spec.range * (high - low))
    if budget_bytes > device.free_memory_bytes:
        raise InvalidInputError(
            f"problem {spec.name!r} has a budget of {budget_bytes} bytes; allowed: up to the "
            f"{device.free_memory_bytes} that are free"
        )
    return replace(problem, budget_bytes=budget_bytes)


def range_bytes(problem: Problem) -> tuple[int, int]:
    """Bytes at both ends of the range of budgets: the least by recomputation, and keep-all.

    In inference the least has everything on the host.

    Raises:
        InvalidInputError: there is no pipeline over all ranks.
    """
    pipeline = standard_pipeline(problem)
    simulator = simulator_of(problem)
    if problem.mode is Mode.INFERENCE:
        space = PassSpace(problem)
        leanest = space.build(pipeline, space.everything)
    else:
        leanest = floor_schedule(problem, pipeline)
    least = simulator.figures(leanest).max_peak_bytes
    kept = simulator.figures(keep_all_schedule(problem.graph, pipeline)).max_peak_bytes
    return least, max(least, kept)


def worn(hardware: Hardware, spec: ProblemSpec) -> Hardware:
    """The hardware with less free memory and slower links."""
    state = HardwareState(
        free_memory_bytes=int(spec.free_memory_share * hardware.free_memory_bytes),
        host_link_share=spec.host_link_share,
        link_share=spec.link_share,
    )
    return replace(hardware, state=state)
