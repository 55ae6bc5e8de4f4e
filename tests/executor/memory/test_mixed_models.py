"""Zoo models under options that mix actions inside units: gradients to the bit, peaks to 2 %."""

from __future__ import annotations

import copy
import functools
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.memory.install import apply
from remora.executor.step import TrainingStep, preserved
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.menu import keep_all_schedule, keep_option
from remora.schedule.problem import Problem
from remora.schedule.recompute import is_recompute, rerun_of
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption
from remora.simulator.simulate import simulate
from remora.zoo.example import Example
from remora.zoo.registry import build_target
from tests.executor.memory.plans import (
    StepResult,
    differences,
    menu_schedule,
    random_schedule,
    run_steps,
)
from tests.executor.test_peak import peak_problem
from tests.zoo.model_files import TINY, load

TOLERANCE = 0.02


@dataclass(frozen=True)
class Case:
    """A model, its problem, what a plain step leaves behind, and a step in the steady state."""

    example: Example
    graph: ModelGraph
    problem: Problem
    plain: StepResult
    step: TrainingStep


@functools.lru_cache(maxsize=16)
def case_of(name: str) -> Case:
    config = load("model", name)
    example = build_target(config["target"], config["values"])
    graph = trace(copy.deepcopy(example.model), example.example_inputs, example.loss)
    with preserved(example.model):
        plain = run_steps(example.model, example.example_inputs, example.loss)
        step = TrainingStep(example.model, example.example_inputs, example.loss, "adamw")
        step.run()
    return Case(example, graph, replace(peak_problem(graph), allow_lossy=True), plain, step)


def check(case: Case, plan: Schedule, label: str, peak: bool = True) -> None:
    """Gradients, unless something is compressed, and the peak, which takes longer to see."""
    example = case.example
    lossless = all(Action.COMPRESS not in o.distinct for o in plan.memory.options)
    with preserved(example.model), apply(example.model, case.graph, plan, allow_lossy=True):
        scheduled = run_steps(example.model, example.example_inputs, example.loss)
        found = differences(case.plain, scheduled) if lossless else []
        assert found == [], f"{label}: {plan.memory}"
        if not peak:
            return
        measured_bytes = case.step.resident_bytes() + cpu_peak_bytes(case.step.run)
    predicted_bytes = simulate(case.problem, plan).max_peak_bytes
    error = predicted_bytes / measured_bytes - 1
    assert abs(error) < TOLERANCE, f"{label}: {error:.2%} off under {plan.memory}"


def lossless_menus(case: Case) -> Problem:
    return replace(case.problem, allow_lossy=False)


@pytest.mark.parametrize("name", TINY)
def test_random_menu_options(name: str) -> None:
    case = case_of(name)
    for seed in range(5):
        plan = menu_schedule(lossless_menus(case), seed)
        check(case, plan, f"{name}, menu {seed}", peak=seed < 2)


@pytest.mark.parametrize("name", ["gpt2_tiny", "resnet_tiny", "swin_test"])
def test_random_mixes_with_groups_and_compression(name: str) -> None:
    case = case_of(name)
    for seed in range(2):
        check(case, random_schedule(case.graph, seed), f"{name}, mix {seed}")
        check(case, random_schedule(case.graph, seed, lossy=True), f"{name}, lossy mix {seed}")


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_many_random_menu_options(name: str) -> None:
    case = case_of(name)
    for seed in range(100, 150):
        plan = menu_schedule(lossless_menus(case), seed)
        check(case, plan, f"{name}, menu {seed}")


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_many_random_mixes_with_groups_and_compression(name: str) -> None:
    case = case_of(name)
    for seed in range(100, 125):
        for lossy in (False, True):
            plan = random_schedule(case.graph, seed, lossy)
            check(case, plan, f"{name}, mix {seed}, lossy {lossy}")


def test_preserved_models_start_alike() -> None:
    case = case_of("resnet_tiny")
    example = case.example
    with preserved(example.model):
        again = run_steps(example.model, example.example_inputs, example.loss)
    assert differences(case.plain, again) == []
    assert torch.isfinite(again.loss)


OWN = frozenset({"empty", "empty_strided", "set_", "clone"})
"""Operators that the runtime itself calls, to view storages and to copy buffers."""


class Counting(TorchDispatchMode):
    """Counts operators that make or change memory, but for the runtime's own."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not func.is_view and func._opname not in OWN:
            self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", TINY)
def test_the_planned_operators_run_again_and_no_others(name: str) -> None:
    case = case_of(name)
    example, graph = case.example, case.graph
    draw = random.Random(3)
    options = []
    for unit in graph.units:
        recomputed = {graph.storage_of(s) for s in unit.saved if draw.random() < 0.6}
        options.append(
            UnitOption(
                tuple(
                    (s.name, Action.RECOMPUTE if graph.storage_of(s) in recomputed else Action.KEEP)
                    for s in unit.saved
                )
            )
            if not unit.fixed_reason and len(recomputed) > 1
            else keep_option(unit)
        )
        if is_recompute(options[-1]):
            options[-1] = keep_option(unit)
    plan = Schedule(graph.content_hash, MemoryPlan(tuple(options)))
    counts = []
    for schedule in (keep_all_schedule(graph), plan):
        with preserved(example.model), apply(example.model, graph, schedule), Counting() as mode:
            run_steps(example.model, example.example_inputs, example.loss)
        counts.append(mode.calls)
    planned = Counter(
        graph.ops[op].name
        for unit, option in zip(graph.units, options, strict=True)
        if (rerun := rerun_of(case.problem.chain, unit.index, option)) is not None
        for op in rerun.ops
        if graph.ops[op].name.split(".")[1] not in OWN
    )
    assert planned
    assert counts[1] - counts[0] == planned
    assert counts[0] - counts[1] == Counter()
