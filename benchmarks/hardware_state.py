"""How plans change with the state of the hardware, and what it costs not to replan.

Run `python -m benchmarks.hardware_state [models=gpt2,unet] [anew_s=3] [out=FOLDER]`, some five
minutes. Every plan is made for hardware as new, saved and loaded; then less memory is free and the
link to the host is slower. Costs are those of the roofline.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.recording import RESULTS, arguments, context, table, write

if TYPE_CHECKING:
    from remora.api.plan import Plan
    from remora.api.replanning import Replanned

FREE = (1.0, 0.75, 0.5)
HOST_LINK = (1.0, 0.6, 0.3)
PLAN_S = 10.0
WIDE_S = 2.0
"""Seconds of a search that may change the pipeline too, where nothing else fits."""


@dataclass(frozen=True)
class Case:
    """A model that needs about a third more memory than its hardware has."""

    model: str
    hardware: str
    batch: int
    world_size: int = 1
    micro_batches: int | None = None


CASES = (
    Case("gpt2", "rtx4090", 8),
    Case("resnet101", "rtx3090", 224),
    Case("unet", "rtx4090", 64),
    Case("gpt2_medium", "8xl4", 32, 4, 8),
)


def first_plan(case: Case) -> Plan:
    """The plan for hardware as new, after it was saved and loaded."""
    from remora.api.model_source import named_source
    from remora.api.placement import build_to_trace
    from remora.api.planning import Request, make_plan, state_problem, traced_graphs

    source = named_source(case.model, {"batch": case.batch})
    request = Request(
        hardware=case.hardware,
        world_size=case.world_size,
        micro_batches=case.micro_batches,
        cost_model="roofline",
        time_limit_s=PLAN_S,
    )
    graphs = traced_graphs(build_to_trace(source, None), request, None, case.model)
    return make_plan(state_problem(graphs, request), request, source=source)


def measure(case: Case, anew_s: float) -> dict[str, Any]:
    """The plan as new, and one row per state."""
    import remora

    plan = first_plan(case)
    with tempfile.TemporaryDirectory() as folder:
        plan.save(folder)
        begin = time.perf_counter()
        loaded = remora.load(folder)
        load_s = time.perf_counter() - begin
    remora.replan(loaded)  # what only the first call of a process does
    states = [(free, link) for free in FREE for link in HOST_LINK]
    return {
        "model": case.model,
        "hardware": case.hardware,
        "batch": case.batch,
        "world_size": case.world_size,
        "step_time_s": plan.estimate.step_time_s,
        "budget_bytes": plan.budget_bytes,
        "load_s": load_s,
        "rows": [row_of(loaded, free, link, anew_s) for free, link in states],
    }


def row_of(plan: Plan, free: float, link: float, anew_s: float) -> dict[str, Any]:
    """What replanning gives in one state, and what keeping the plan or planning anew would."""
    from remora.api.replanning import replan_and_compare
    from remora.errors import InfeasibleError

    capacity_bytes = plan.problem.hardware.free_memory_bytes
    state = {"free_memory": int(free * capacity_bytes), "host_link_share": link}
    row: dict[str, Any] = {"free_memory_share": free, "host_link_share": link}
    begin_s = time.process_time()
    try:
        result, scope = replan_and_compare(plan, state=state), "options"
    except InfeasibleError:
        # The user sees that nothing fits in the present pipeline, and asks for another one.
        result = replan_and_compare(plan, state=state, scope="all", time_limit_s=WIDE_S)
        scope = "all"
    cpu_s = time.process_time() - begin_s
    return {
        **row,
        "scope": scope,
        "budget_bytes": result.plan.budget_bytes,
        "step_time_s": result.plan.estimate.step_time_s,
        "lower_bound_s": result.plan.lower_bound_s,
        "old_step_time_s": result.present.step_time_s,
        "old_fits": result.present_fits,
        "old_excess_bytes": max(0, result.present.peak_memory_bytes - result.plan.budget_bytes),
        "anew_step_time_s": anew(result, anew_s),
        "replan_s": result.replan_s,
        "replan_cpu_s": cpu_s,
        "changed_units": changed(plan, result.plan),
        "units": kinds(result.plan),
    }


def anew(result: Replanned, time_limit_s: float) -> float:
    """Step time of what the default scheduler finds from nothing, pipeline included."""
    from remora.agents.evaluation import score_of
    from remora.agents.registry import create

    problem = result.plan.problem
    return score_of(problem, create("best").propose(problem, time_limit_s)).step_time_s


def changed(before: Plan, after: Plan) -> int:
    """Units that are treated otherwise."""
    from remora.report.content import unit_rows

    graph = before.problem.graph
    pairs = zip(unit_rows(graph, before.schedule), unit_rows(graph, after.schedule), strict=True)
    return sum((a.actions, a.groups) != (b.actions, b.groups) for a, b in pairs)


def kinds(plan: Plan) -> dict[str, int]:
    """How many units keep all, recompute something and move something; one may do both."""
    from remora.schedule.schedule import Action

    memory = plan.schedule.memory
    groups = [group for top in memory.groups for group in top.walk()]
    inside = {unit for group in groups for unit in range(group.start, group.end)}
    moved = {g.start for g in groups if g.checkpoint is Action.OFFLOAD}
    options = list(enumerate(memory.options))
    again = inside | {unit for unit, option in options if Action.RECOMPUTE in option.distinct}
    moved |= {unit for unit, option in options if Action.OFFLOAD in option.distinct}
    return {
        "kept": len(options) - len(again | moved),
        "recomputing": len(again),
        "moving": len(moved),
    }


def cells_of(case: dict[str, Any]) -> Iterator[list[str]]:
    """One line per state."""
    name = f"{case['model']}, batch {case['batch']}, {case['hardware']}"
    name += f", {case['world_size']} ranks" if case["world_size"] > 1 else ""
    for row in case["rows"]:
        state = [f"{row[key]:.0%}" for key in ("free_memory_share", "host_link_share")]
        step_s, units = row["step_time_s"], row["units"]
        old = f"lacks {row['old_excess_bytes'] / 2**30:.1f} GiB"
        if row["old_fits"]:
            old = f"{row['old_step_time_s'] / step_s - 1:+.1%}"
        yield [
            name,
            *state,
            row["scope"],
            f"{step_s * 1e3:.1f}",
            f"{units['kept']} / {units['recomputing']} / {units['moving']}",
            str(row["changed_units"]),
            old,
            f"{row['anew_step_time_s'] / step_s - 1:+.1%}",
            f"{row['replan_s']:.2f}",
        ]


def summary(cases: list[dict[str, Any]]) -> str:
    """The table, and what it says on the whole."""
    head = ["problem", "free memory", "host link", "scope", "step, ms"]
    head += ["units kept / recomputing / moving", "units changed", "old plan", "planned anew"]
    head += ["replanned in, s"]
    rows = [row for case in cases for row in case["rows"]]
    seconds = [row["replan_s"] for row in rows if row["scope"] == "options"]
    cpu = [row["replan_cpu_s"] for row in rows if row["scope"] == "options"]
    slow = [r["old_step_time_s"] / r["step_time_s"] - 1 for r in rows if r["old_fits"]]
    loads = ", ".join(f"{case['load_s']:.2f}" for case in cases)
    return (
        "Old plan: how much memory it lacks, or how much longer its step takes than that of the "
        "new plan. Planned anew: the same for what `best` finds from nothing; below zero it is "
        f"faster. Where nothing fits in the present pipeline it may change too, with {WIDE_S:g} s "
        f"(scope all).\n\n{table(head, [line for case in cases for line in cells_of(case)])}\n\n"
        f"In {sum(not row['old_fits'] for row in rows)} of {len(rows)} states the old plan does "
        f"not fit; in the others it takes up to {max(slow):.0%} longer. Replanning options took "
        f"{statistics.median(seconds):.2f} s at the median and {max(seconds):.2f} s at most, of "
        f"them {statistics.median(cpu):.2f} and {max(cpu):.2f} s on the processor; reading the "
        f"saved plans took {loads} s. The load of the machine was {os.getloadavg()[2]:.1f}."
    )


def main(words: list[str]) -> int:
    """Measure, write both files, print the table."""
    names = ",".join(case.model for case in CASES)
    values = arguments(words, {"out": str(RESULTS), "models": names, "anew_s": "3"})
    chosen = [case for case in CASES if case.model in values["models"].split(",")]
    cases = [measure(case, float(values["anew_s"])) for case in chosen]
    about = context("python -m benchmarks.hardware_state", ("torch", "numpy", "numba"))
    record = {"context": about, "cases": cases}
    title = "Plans and the state of the hardware"
    write(Path(values["out"]), "hardware_state", record, title, summary(cases))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
