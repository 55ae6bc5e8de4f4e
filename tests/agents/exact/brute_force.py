"""Every schedule of a small class, simulated: what exact solvers are held against."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator

from remora.agents.exact.menus.model import menu_choices
from remora.agents.heuristics.shapes import shapes_of
from remora.hardware.hardware import Link
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import PipelinePlan, Schedule
from remora.simulator.compiled import simulator_of
from tests.pipelines import gpu_hardware
from tests.problems import cpu_hardware, table, toy_graph

_BATCH = 4096


def fastest(problem: Problem, schedules: Iterable[Schedule]) -> float:
    """Step time of the fastest schedule within device and host memory; infinite if none is."""
    simulator = simulator_of(problem)
    host_bytes = problem.hardware.host.memory_bytes
    left = iter(schedules)
    best_s = math.inf
    while batch := list(itertools.islice(left, _BATCH)):
        for figures in simulator.batch(batch):
            fits = figures.max_peak_bytes <= problem.budget_bytes
            if fits and max(figures.host_peak_bytes) <= host_bytes:
                best_s = min(best_s, figures.step_time_s)
    return best_s


def unit_plans(
    problem: Problem, paces: Iterable[tuple[int, int]], mixed: bool
) -> Iterator[Schedule]:
    """All plans of one device in which every unit decides by itself."""
    choices = menu_choices(problem, problem.micro_batches or 1, mixed)
    for pace in paces:
        for chosen in itertools.product(*(range(len(menu)) for menu in choices.menus)):
            yield choices.schedule(chosen, *pace)


def joint_plans(problem: Problem, mixed: bool = False) -> Iterator[Schedule]:
    """The same for all pipelines that the problem allows, at the default pace."""
    for pipeline in pipelines(problem):
        yield from pipeline_plans(problem, pipeline, mixed)


def pipeline_plans(
    problem: Problem, pipeline: PipelinePlan, mixed: bool = False
) -> Iterator[Schedule]:
    """All plans of one pipeline."""
    choices = menu_choices(problem, pipeline.micro_batches, mixed)
    for chosen in itertools.product(*(range(len(menu)) for menu in choices.menus)):
        yield choices.schedule(chosen, 2, 1, pipeline)


def pipelines(problem: Problem) -> Iterator[PipelinePlan]:
    """Every shape with every way to cut it."""
    borders = range(1, len(problem.graph.units))
    for shape in shapes_of(problem):
        for cuts in itertools.combinations(borders, shape.num_stages - 1):
            yield shape.cut(cuts)


def small_problem(
    hidden: tuple[int, ...],
    overlap: bool,
    copy_bytes_per_s: float,
    world_size: int = 1,
    micro_batches: int = 1,
    optimizer: str = "sgd",
) -> Problem:
    """Blocks whose activations count, with copies that are worth their time if they are fast.

    Args:
        hidden: widths of the blocks; head and loss are units too.
        overlap: copies run beside the computation.
        copy_bytes_per_s: in both directions.
        world_size: ranks.
        micro_batches: fixed; each has the size of the graph's batch.
        optimizer: what is counted beside the weights.
    """
    graph = toy_graph(hidden, batch=256)
    link = Link(2e9, 1e-6)
    hardware = gpu_hardware(world_size, link) if overlap else cpu_hardware()
    costs = dataclasses.replace(table(graph, copy_bytes_per_s, time_scale=4.0), copy_latency_s=1e-7)
    counts = {1, micro_batches}
    return Problem(
        graphs=dict.fromkeys(counts, graph),
        costs=dict.fromkeys(counts, costs),
        hardware=dataclasses.replace(hardware, link=link),
        optimizer=OPTIMIZERS[optimizer],
        budget_bytes=2**40,
        world_size=world_size,
        micro_batches=micro_batches,
    )


def between(problem: Problem, plans: Iterable[Schedule], share: float) -> Problem:
    """The problem with a budget at ``share`` of the way from the least to the largest peak."""
    peaks = [f.max_peak_bytes for f in simulator_of(problem).batch(list(plans))]
    budget = math.floor(min(peaks) + share * (max(peaks) - min(peaks)))
    return dataclasses.replace(problem, budget_bytes=budget if share >= 0 else min(peaks) - 1)
