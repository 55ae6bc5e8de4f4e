"""Speed of the learned cost model: many schedules of one problem, and loading the model.

Run `python -m benchmarks.cost_model_speed [out=FOLDER]` with nothing else running; one thread.
Random menu options, half of the schedules with recompute groups. The clock holds everything that
`estimate_many` does: checks, simulation, features, the ensemble.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.recording import RESULTS, arguments, context, table, write

REPETITIONS = 5
COUNT = 1000
LAYERS = 31
TARGET_S = 1.0
LOAD_TARGET_S = 0.5


def problem_of(layers: int) -> Any:
    """A transformer with two units per layer, on a CPU with roofline costs."""
    from remora.api.hardware import find_hardware
    from remora.cost_models.roofline import roofline_costs
    from remora.graph.trace import trace
    from remora.schedule.problem import OPTIMIZERS, Problem
    from remora.zoo.fake import build_without_memory

    values = {
        "layers": layers,
        "width": 64,
        "heads": 4,
        "vocabulary": 256,
        "sequence": 32,
        "batch": 2,
        "dtype": "float32",
    }
    example = build_without_memory("remora.zoo.gpt2:gpt2", values)
    graph = trace(example.model, example.example_inputs, example.loss)
    hardware = find_hardware("local", None)
    costs = roofline_costs(graph, hardware)
    return Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["adamw"], 2**60)


def random_schedules(problem: Any, count: int) -> list[Any]:
    """Random options of every unit; every second schedule has groups of two to eight units."""
    from remora.schedule.menu import unit_menu
    from remora.schedule.schedule import Group, MemoryPlan, Schedule

    draw = random.Random(0)
    menus = [unit_menu(problem, unit) for unit in problem.graph.units]
    schedules = []
    for number in range(count):
        options = [draw.choice(menu) for menu in menus]
        groups, start = [], 1
        while number % 2 and start + 8 < len(menus):
            end = start + draw.randint(2, 8)
            groups.append(Group(start, end))
            options[start:end] = [menu[0] for menu in menus[start:end]]
            start = end + draw.randint(0, 4)
        memory = MemoryPlan(tuple(options), tuple(groups))
        schedules.append(Schedule(problem.graph.content_hash, memory))
    return schedules


def measure() -> dict[str, Any]:
    """All figures."""
    from remora.cost_models.gnn.step_features import encoder_of
    from remora.cost_models.gnn.weights import load_cost_model, pretrained_path
    from remora.schedule.validate import validate
    from remora.simulator.compiled import simulator_of

    problem = problem_of(LAYERS)
    schedules = random_schedules(problem, COUNT)
    model, _ = load_cost_model(pretrained_path())
    simulator_of(problem).batch(schedules[:1])  # compiles, and makes the problem's tables
    first_s = seconds(lambda: model.estimate_many(problem, schedules))
    figures = simulator_of(problem).batch(schedules)
    encoded = encoder_of(problem).encode(schedules, figures)
    return {
        "units": len(problem.graph.units),
        "schedules": COUNT,
        "first_s": first_s,
        "estimate_many_s": median_s(lambda: model.estimate_many(problem, schedules)),
        "check_s": median_s(lambda: [validate(problem, one) for one in schedules]),
        "simulate_s": median_s(lambda: simulator_of(problem).batch(schedules)),
        "encode_s": median_s(lambda: encoder_of(problem).encode(schedules, figures)),
        "correct_s": median_s(lambda: model.step_model.correct_encoded(encoded)),
        "load_s": median_s(lambda: load_cost_model(pretrained_path())),
    }


def median_s(function: Callable[[], object]) -> float:
    """Median wall time."""
    return statistics.median(seconds(function) for _ in range(REPETITIONS))


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def summary(row: dict[str, Any]) -> str:
    """The table and what it is held against."""
    verdict = "reached" if row["first_s"] < TARGET_S else "missed"
    load = "reached" if row["load_s"] < LOAD_TARGET_S else "missed"
    lines = [
        ["all of it, options never met before", f"{row['first_s']:.3f}", f"{TARGET_S} {verdict}"],
        ["all of it again", f"{row['estimate_many_s']:.3f}", ""],
        ["checks of the schedules", f"{row['check_s']:.3f}", ""],
        ["simulation", f"{row['simulate_s']:.3f}", ""],
        ["features", f"{row['encode_s']:.3f}", ""],
        ["ensemble and bound", f"{row['correct_s']:.3f}", ""],
        ["shipped model from its files", f"{row['load_s']:.3f}", f"{LOAD_TARGET_S} {load}"],
    ]
    text = table(["part", "s", "target"], lines)
    return f"{row['schedules']:,} schedules of one problem of {row['units']} units.\n\n{text}"


def main(words: list[str]) -> int:
    """Measure, write the files, print the table."""
    values = arguments(words, {"out": str(RESULTS)})
    torch.set_num_threads(1)
    row = measure()
    packages = ("numba", "numpy", "torch", "torch-geometric")
    record = {"context": context("python -m benchmarks.cost_model_speed", packages), **row}
    title = "Speed of the learned cost model"
    write(Path(values["out"]), "cost_model_speed", record, title, summary(row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
