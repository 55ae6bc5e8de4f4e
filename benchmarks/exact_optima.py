"""Schedulers held against optima that are known: all schedules of small problems, simulated.

Run `python -m benchmarks.exact_optima [out=FOLDER] [seconds=20]`, about a quarter of an hour. One
device: every choice of options, mixed ones included, nested groups with their checkpoints kept or
moved, and several paces. Two ranks: every pipeline with every cut and every choice of plain
options of single units, without longer groups. The state stays on the device.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

CHAINS = {
    "even": (2048, 2048, 2048, 2048),
    "falling": (4096, 2048, 1024, 512),
    "hourglass": (512, 4096, 4096, 512),
}
WIDTH, BATCH = 256, 16384
HARDWARE = "rtx3090"
SHARES = (0.0, 0.1, 0.2, 0.4, 0.6)
PACES = ((2, 1), (1, 1), (3, 2), (5, 4))
MICRO_BATCHES = (1, 2, 4)
ONE_DEVICE = ("rotor", "recompute_offload", "partition", "milp", "greedy", "best")
TWO_RANKS = ("partition", "cp_sat", "balanced", "rank_greedy", "best")
SAME = 1e-6
ROUND = 4096


def problem_of(hidden: Sequence[int], world_size: int) -> Any:
    """Residual blocks of these hidden widths and a head, on roofline costs."""
    import torch
    from torch import nn

    from remora.api.hardware import find_hardware
    from remora.cost_models.roofline import roofline_costs
    from remora.graph.trace import trace
    from remora.schedule.problem import OPTIMIZERS, Problem

    class Block(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.norm, self.up = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, size)
            self.down = nn.Linear(size, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block(size) for size in hidden)
            self.head = nn.Linear(WIDTH, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    counts = MICRO_BATCHES if world_size > 1 else (1,)
    graphs = {n: trace(Blocks(), (torch.randn(BATCH // n, WIDTH),)) for n in counts}
    hardware = find_hardware(HARDWARE)
    costs = {n: roofline_costs(graph, hardware) for n, graph in graphs.items()}
    problem = Problem(graphs, costs, hardware, OPTIMIZERS["adamw"], 2**60, world_size)
    # The brute force knows no other place of the state.
    return dataclasses.replace(problem, state_on_device=True)


def groups_of(start: int, end: int, inner: bool = False) -> Iterator[tuple[Any, ...]]:
    """All sets of disjoint nested groups of two units or more inside a range."""
    from remora.schedule.schedule import Action, Group

    yield ()
    ranges = itertools.combinations(range(start, end + 1), 2)
    for first, last in ranges:
        if last - first < 2 or (inner and (first, last) == (start, end)):
            continue
        checkpoints = (Action.KEEP,) if inner else (Action.KEEP, Action.OFFLOAD)
        for children in groups_of(first, last, inner=True):
            for rest in groups_of(last, end):
                if inner and any(group.checkpoint is Action.OFFLOAD for group in rest):
                    continue
                for checkpoint in checkpoints:
                    yield (Group(first, last, checkpoint, children), *rest)


def one_device_plans(problem: Any) -> Iterator[Any]:
    """The whole language of one device, whole batch, state on the device."""
    from remora.agents.evaluation import uses_host
    from remora.agents.exact.menus.model import menu_choices
    from remora.schedule.menu import keep_option, recompute_option
    from remora.schedule.schedule import MemoryPlan, Schedule

    units = problem.graph.units
    menus = menu_choices(problem, 1, mixed=True)
    fixed = {unit.index for unit in units if unit.fixed_reason}
    inside = [dict.fromkeys((keep_option(unit), recompute_option(unit))) for unit in units]
    for groups in groups_of(0, len(units)):
        grouped = {unit for group in groups for unit in range(group.start, group.end)}
        if grouped & fixed:
            continue
        offered: list[Iterable[Any]] = [
            inside[u] if u in grouped else range(len(menus.menus[u])) for u in range(len(units))
        ]
        for picked in itertools.product(*offered):
            chosen = [0 if u in grouped else picked[u] for u in range(len(units))]
            alone = menus.schedule(chosen, *PACES[0]).memory
            options = tuple(
                picked[u] if u in grouped else alone.options[u] for u in range(len(units))
            )
            every = tuple(sorted((*groups, *alone.groups), key=lambda group: group.start))
            plan = Schedule(problem.graph.content_hash, MemoryPlan(options, every, *PACES[0]))
            yield plan
            for window, distance in PACES[1:] if uses_host(plan) else ():
                yield dataclasses.replace(plan, memory=MemoryPlan(options, every, window, distance))


def two_rank_plans(problem: Any) -> Iterator[Any]:
    """All pipelines, cuts and plain options of single units."""
    from remora.agents.exact.menus.model import menu_choices
    from remora.agents.heuristics.shapes import shapes_of

    borders = range(1, len(problem.graph.units))
    menus = {count: menu_choices(problem, count, mixed=False) for count in problem.graphs}
    for shape in shapes_of(problem):
        for cuts in itertools.combinations(borders, shape.num_stages - 1):
            choices = menus[shape.micro_batches]
            for chosen in itertools.product(*(range(len(menu)) for menu in choices.menus)):
                yield choices.schedule(chosen, *PACES[0], shape.cut(cuts))


def figures_of(problem: Any, plans: Iterator[Any]) -> list[tuple[float, int]]:
    """(seconds, peak) of every plan."""
    from remora.simulator.compiled import simulator_of

    found = []
    while batch := list(itertools.islice(plans, ROUND)):
        found += [(f.step_time_s, f.max_peak_bytes) for f in simulator_of(problem).batch(batch)]
    return found


def measure(
    label: str, problem: Any, plans: Iterator[Any], names: Sequence[str], seconds: float
) -> list[dict[str, Any]]:
    """The optimum at every budget and what each scheduler finds."""
    figures = figures_of(problem, plans)
    peaks = [peak for _, peak in figures]
    rows = []
    for share in SHARES:
        budget = int(min(peaks) + share * (max(peaks) - min(peaks)))
        limited = dataclasses.replace(problem, budget_bytes=budget)
        optimum = min(step_s for step_s, peak in figures if peak <= budget)
        for name in names:
            begin = time.perf_counter()
            rows.append(
                {
                    "problem": label,
                    "ranks": problem.world_size,
                    "share": share,
                    "plans": len(figures),
                    "optimum_s": optimum,
                    "scheduler": name,
                    "step_time_s": step_time_s(name, limited, seconds),
                    "search_s": time.perf_counter() - begin,
                }
            )
    return rows


def step_time_s(name: str, problem: Any, seconds: float) -> float | None:
    """Simulated seconds of what a scheduler finds; None if it finds nothing."""
    from remora.agents.evaluation import score_of
    from remora.agents.registry import create
    from remora.errors import InfeasibleError, TimeLimitError

    try:
        return score_of(problem, create(name).propose(problem, seconds)).step_time_s
    except (InfeasibleError, TimeLimitError):
        return None


def line(ranks: int, name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """What one scheduler is worth."""
    gaps = [r["step_time_s"] / r["optimum_s"] - 1 for r in rows if r["step_time_s"] is not None]
    spent = statistics.median(row["search_s"] for row in rows)
    return [
        str(ranks),
        name,
        f"{len(gaps)} of {len(rows)}",
        str(sum(abs(gap) <= SAME for gap in gaps)),
        str(sum(gap < -SAME for gap in gaps)),
        f"{statistics.median(gaps):.2%}" if gaps else "-",
        f"{max(gaps):.2%}" if gaps else "-",
        f"{spent:.2f}",
    ]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """One line per number of ranks and scheduler."""
    kinds = dict.fromkeys((row["ranks"], row["scheduler"]) for row in rows)
    lines = [
        line(*kind, [row for row in rows if (row["ranks"], row["scheduler"]) == kind])
        for kind in kinds
    ]
    counts = dict.fromkeys((row["problem"], row["plans"]) for row in rows)
    simulated = ", ".join(f"{label} {plans}" for label, plans in counts)
    head = ["ranks", "scheduler", "found", "optimal", "below", "gap, median", "worst", "s (median)"]
    return (
        f"Schedules simulated: {simulated}. Budgets at {', '.join(map(str, SHARES))} of the way "
        "from the least to the largest peak of all of them. `below` = faster than all of them, "
        "by groups (two ranks), mixed options (two ranks) or another pace.\n\n"
        f"{table(head, lines)}"
    )


def main(words: list[str]) -> int:
    """Measure, write both files, print the table."""
    values = arguments(words, {"out": str(RESULTS), "seconds": "20"})
    seconds = float(values["seconds"])
    rows: list[dict[str, Any]] = []
    for ranks, names in ((1, ONE_DEVICE), (2, TWO_RANKS)):
        for label, hidden in CHAINS.items():
            problem = problem_of(hidden, ranks)
            plans = one_device_plans(problem) if ranks == 1 else two_rank_plans(problem)
            rows += measure(f"{label} on {ranks}", problem, plans, names, seconds)
            print(f"{label} on {ranks}: {len(rows)} rows so far", file=sys.stderr)
    about = context(
        f"python -m benchmarks.exact_optima seconds={seconds:g}", ("numpy", "highspy", "ortools")
    )
    record = {"context": about, "rows": rows}
    write(Path(values["out"]), "exact_optima", record, "Proven optima", summary(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
