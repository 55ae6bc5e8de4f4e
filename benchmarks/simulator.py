"""Schedules per second of the compiled engine, and its cost against the number of instructions.

Run `python -m benchmarks.simulator [out=FOLDER]` with nothing else running; one thread. A
schedule is lowered and simulated; reading the options of a `Schedule` object is part of the clock.
"""

from __future__ import annotations

import dataclasses
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.recording import RESULTS, arguments, context, table, write
from examples.own_model import Classifier

REPETITIONS = 5
BATCH = 1000
SCALING = ((64, 32), (128, 64), (256, 128), (512, 256), (1024, 512))
TARGETS = {"one device": 10_000, "1f1b": 1_000}


class Chain(nn.Module):
    """Equal blocks of three operators' worth of layers, one unit each."""

    def __init__(self, blocks: int, width: int = 8) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(blocks)]
        self.blocks = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run the model; ``x`` is [batch, width]."""
        for block in self.blocks:
            x = block(x)
        return x


def problem_of(model: nn.Module, batch: Tensor, ranks: int, micro_batches: int) -> Any:
    """A problem with roofline costs on GPUs of a node, every micro-batch as large as ``batch``."""
    from remora.api.hardware import find_hardware
    from remora.cost_models.roofline import roofline_costs
    from remora.graph.trace import trace
    from remora.schedule.problem import OPTIMIZERS, Problem

    graph = trace(model, (batch,))
    hardware = find_hardware("4xa100", None)
    costs = roofline_costs(graph, hardware)
    sizes = {1, micro_batches}
    return Problem(
        dict.fromkeys(sizes, graph),
        dict.fromkeys(sizes, costs),
        hardware,
        OPTIMIZERS["adamw"],
        2**40,
        world_size=ranks,
    )


def random_schedules(problem: Any, ranks: int, micro_batches: int, count: int) -> list[Any]:
    """Random menu options; a third of the units offload; random cuts around equal ones."""
    from remora.schedule.menu import unit_menu
    from remora.schedule.schedule import MemoryPlan, PipelineKind, PipelinePlan, Schedule

    draw = random.Random(0)
    units = problem.graph.units
    menus = [unit_menu(problem, unit) for unit in units]
    schedules = []
    for _ in range(count):
        memory = MemoryPlan(tuple(draw.choice(menu) for menu in menus))
        pipeline = PipelinePlan()
        if ranks > 1:
            step = len(units) // ranks
            cuts = tuple(r * step + draw.randint(-1, 1) for r in range(1, ranks))
            pipeline = PipelinePlan(PipelineKind.ONE_F_ONE_B, cuts, 1, micro_batches)
        schedules.append(Schedule(problem.graph.content_hash, memory, pipeline))
    return schedules


def rate(ranks: int, micro_batches: int) -> dict[str, Any]:
    """Schedules per second, compiled in a batch and by the plain reference."""
    from remora.simulator.compiled import CompiledSimulator
    from remora.simulator.simulate import simulate

    problem = problem_of(Classifier(width=16, depth=62), torch.randn(8, 16), ranks, micro_batches)
    schedules = random_schedules(problem, ranks, micro_batches, BATCH)
    simulator = CompiledSimulator(problem)
    simulator.batch(schedules)
    compiled = [BATCH / seconds(lambda: simulator.batch(schedules)) for _ in range(REPETITIONS)]
    few = schedules[: 20 if ranks == 1 else 3]
    plain_s = seconds(lambda: [simulate(problem, schedule) for schedule in few])
    return {
        "ranks": ranks,
        "micro_batches": micro_batches,
        "units": len(problem.graph.units),
        "schedules_per_s": statistics.median(compiled),
        "slowest_per_s": min(compiled),
        "reference_per_s": len(few) / plain_s,
    }


def scaling() -> list[dict[str, Any]]:
    """One simulation of a GPipe with one unit per rank, at growing sizes."""
    from remora.schedule.menu import keep_all_schedule
    from remora.schedule.schedule import PipelineKind, PipelinePlan
    from remora.simulator.compiled import CompiledSimulator

    rows = []
    for ranks, micro_batches in SCALING:
        problem = problem_of(Chain(ranks), torch.randn(2, 8), ranks, micro_batches)
        units = len(problem.graph.units)
        cuts = tuple(range(1, ranks))
        pipeline = PipelinePlan(PipelineKind.GPIPE, cuts, 1, micro_batches)
        keep = keep_all_schedule(problem.graph)
        schedule = dataclasses.replace(keep, pipeline=pipeline)
        simulator = CompiledSimulator(problem)
        first_s = seconds(lambda s=simulator, p=schedule: s.figures(p))
        again = [seconds(lambda s=simulator, p=schedule: s.figures(p)) for _ in range(REPETITIONS)]
        rows.append(
            {
                "ranks": ranks,
                "micro_batches": micro_batches,
                "units": units,
                # A forward and a backward of every unit, two messages over every cut.
                "instructions": micro_batches * (2 * units + 4 * (ranks - 1)),
                "first_s": first_s,
                "simulate_s": statistics.median(again),
                "process_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        )
    return rows


def slope(rows: list[dict[str, Any]]) -> float:
    """Exponent of the time in the number of instructions; 1 is linear."""
    x = np.log([row["instructions"] for row in rows])
    y = np.log([row["simulate_s"] for row in rows])
    return float(np.polyfit(x, y, 1)[0])


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def draw_scaling(rows: list[dict[str, Any]], file: Path) -> None:
    """Plot time over instructions on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    x = [row["instructions"] for row in rows]
    y = [row["simulate_s"] for row in rows]
    axes.loglog(x, y, "o-", label="measured")
    axes.loglog(x, [y[-1] * value / x[-1] for value in x], "k:", label="linear")
    axes.set_xlabel("instructions")
    axes.set_ylabel("seconds per simulation")
    axes.legend()
    figure.savefig(file, dpi=120)


def summary(rates: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Both tables and what they are held against."""
    lines = []
    for row, (name, target) in zip(rates, TARGETS.items(), strict=True):
        per_s = row["schedules_per_s"]
        lines.append(
            [
                name,
                f"{row['ranks']} x {row['micro_batches']} x {row['units']}",
                f"{per_s:,.0f}",
                f"{row['slowest_per_s']:,.0f}",
                f"{target:,}",
                "reached" if per_s >= target else "missed",
                f"{per_s / row['reference_per_s']:,.0f}x",
            ]
        )
    head = ["case", "ranks x micro-batches x units", "schedules/s", "slowest", "target", "", "gain"]
    text = table(head, lines)
    lines = [
        [
            f"{row['ranks']:,} x {row['micro_batches']}",
            f"{row['instructions']:,}",
            f"{row['simulate_s']:.4f}",
            f"{row['first_s']:.3f}",
            f"{row['process_peak_bytes'] / 2**30:.2f}",
        ]
        for row in rows
    ]
    head = ["ranks x micro-batches", "instructions", "s", "s with tables and order", "process GiB"]
    return (
        f"{text}\n\n`gain` is over the plain-Python reference, which gives the same numbers.\n\n"
        f"{table(head, lines)}\n\nTime grows with instructions to the power {slope(rows):.2f} "
        "(`simulator_scaling.png`). Target of the largest: under 2 s and under 2 GiB."
    )


def main(words: list[str]) -> int:
    """Measure, write the files, print the tables."""
    values = arguments(words, {"out": str(RESULTS)})
    torch.set_num_threads(1)
    rates = [rate(1, 1), rate(8, 32)]
    rows = scaling()
    record = {
        "context": context("python -m benchmarks.simulator", ("numba", "numpy", "torch")),
        "rates": rates,
        "scaling": rows,
        "exponent": slope(rows),
    }
    folder = Path(values["out"])
    write(folder, "simulator", record, "Simulator speed", summary(rates, rows))
    draw_scaling(rows, folder / "simulator_scaling.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
