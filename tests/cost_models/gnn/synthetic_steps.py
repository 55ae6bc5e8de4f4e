"""Steps of small graphs whose measured figures follow a known rule."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from remora.cost_models.dataset.records import ProfiledRun, Setting, StepRow, Subject
from remora.cost_models.gnn.step_examples import StepExample, step_examples
from remora.cost_models.gnn.step_features import encoder_of
from remora.cost_models.roofline import roofline_costs
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.measurements import Measurements, Overheads
from remora.schedule.menu import unit_menu
from remora.schedule.problem import OPTIMIZERS, CostTable, Problem
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule
from remora.schedule.serialize import schedule_to_json
from tests.problems import BlockChain, cpu_hardware

FAMILIES = ("narrow", "wide", "deep")
HIDDEN = {"narrow": (16, 24, 32, 16), "wide": (128, 256, 192), "deep": (32, 32, 64, 32, 64, 32)}
RERUN_FACTOR, BACKWARD_FACTOR, PEAK_FACTOR = 1.8, 1.5, 1.02


@functools.cache
def block_graph(hidden: tuple[int, ...], batch: int) -> ModelGraph:
    return trace(BlockChain(hidden), (torch.zeros(batch, 16),))


def problem_of(graph: ModelGraph, device_type: str = "cpu", world_size: int = 1) -> Problem:
    hardware = cpu_hardware(device_type=device_type)
    return Problem(
        {1: graph, 2: graph},
        dict.fromkeys((1, 2), costs_of_graph(graph)),
        hardware,
        OPTIMIZERS["adamw"],
        2**60,
        world_size=world_size,
        allow_lossy=True,
    )


def costs_of_graph(graph: ModelGraph) -> CostTable:
    costs = roofline_costs(graph, cpu_hardware())
    return replace(costs, saved_tensor_overhead_s=2e-6, recorded_op_overhead_s=1e-6)


def costs_of(run: ProfiledRun) -> CostTable:
    return costs_of_graph(run.graph)


def random_schedules(problem: Problem, count: int, seed: int = 0) -> list[Schedule]:
    """Menu options at random; every second schedule has a group, some with one inside."""
    draw = random.Random(seed)
    units = problem.graph.units
    menus = [unit_menu(problem, unit) for unit in units]
    # No group may hold what is computed outside of the model, the loss at the end.
    free = next((u.index for u in units if u.fixed_reason), len(units))
    schedules = []
    for number in range(count):
        options = [draw.choice(menu) for menu in menus]
        groups: tuple[Group, ...] = ()
        if number % 2:
            start = draw.randint(0, free - 2)
            end = draw.randint(start + 1, free)
            inner: tuple[Group, ...] = ()
            if end - start > 2:
                first = draw.randint(start + 1, end - 1)
                inner = (Group(first, draw.randint(first + 1, end)),)
            options[start:end] = [draw.choice(menu[:2]) for menu in menus[start:end]]
            checkpoint = draw.choice((Action.KEEP, Action.OFFLOAD))
            groups = (Group(start, end, checkpoint, inner),)
        memory = MemoryPlan(tuple(options), groups)
        schedules.append(Schedule(problem.graph.content_hash, memory))
    return schedules


def profiled_runs(per_family: int = 3, schedules: int = 8, seed: int = 0) -> list[ProfiledRun]:
    """Runs whose steps take longer by known factors, with a little noise."""
    return [
        _run(family, HIDDEN[family], 8 * (2 + number), schedules, seed + number)
        for family in FAMILIES
        for number in range(per_family)
    ]


def examples(per_family: int = 3, schedules: int = 8, seed: int = 0) -> list[StepExample]:
    return step_examples(profiled_runs(per_family, schedules, seed), costs_of)


def _run(family: str, hidden: tuple[int, ...], batch: int, count: int, seed: int) -> ProfiledRun:
    graph = block_graph(hidden, batch)
    problem = problem_of(graph)
    schedules = random_schedules(problem, count, seed)
    encoded = encoder_of(problem).encode(schedules)
    times_s = encoded.step_s + true_extra_s(encoded.seconds.sum(axis=0))
    noise = np.random.default_rng(seed)
    times_s = times_s * np.exp(noise.normal(0, 0.003, count))
    peaks = encoded.peak_bytes * PEAK_FACTOR * np.exp(noise.normal(0, 0.001, count))
    values = {"hidden": list(hidden), "batch": batch}
    subject = Subject(family, family, "tests:model", values, batch, "float32")
    return ProfiledRun(
        subject,
        Setting(problem.hardware, 1, "2", "3", "none"),
        graph,
        Measurements({}, {}, Overheads(0.0, 0.0), 1e-4),
        steps=_rows(schedules, times_s.tolist(), peaks.tolist()),
    )


def true_extra_s(parts_s: np.ndarray) -> np.ndarray:
    """What the simulator misses, from its seconds by part.  # [n, P] -> [n]."""
    return (BACKWARD_FACTOR - 1) * parts_s[:, 1] + (RERUN_FACTOR - 1) * parts_s[:, 2]


def _rows(
    schedules: Sequence[Schedule], times_s: Sequence[float], peaks: Sequence[float]
) -> tuple[StepRow, ...]:
    return tuple(
        StepRow(
            label="random",
            schedule_json=schedule_to_json(schedule),
            optimizer="adamw",
            status="ok",
            detail="",
            step_times_s=(time_s,) * 3,
            peak_memory_bytes=int(peak),
        )
        for schedule, time_s, peak in zip(schedules, times_s, peaks, strict=True)
    )
