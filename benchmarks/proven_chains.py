"""Proven optima of the recompute-only problems of suite `single`.

Run `python -m benchmarks.proven_chains [out=FOLDER] [seconds=60]`, up to an hour on one core; the
policy's benchmark reads what it writes. One device, the whole batch, state on the device, nothing
goes to the host. The optimum is that of an integer program over the menus of all units, solved to
the end, unless the recompute program or a search with longer groups finds a faster plan, which the
class of the integer program does not hold; then the problem counts as not proven.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

SUITE = "single"
SEARCH_S = 5.0
SAME = 1e-6


def recompute_only(problem: Any) -> Any:
    """The problem without a host, on the whole batch."""
    host = replace(problem.hardware.host, pool="none")
    hardware = replace(problem.hardware, host=host)
    return replace(problem, hardware=hardware, micro_batches=1, state_on_device=True)


def solved(item: Any, seconds: float) -> dict[str, Any]:
    """One problem: the integer program's plan and bound, and what others find."""
    from remora.agents.candidates import run_member
    from remora.agents.exact.menus.milp import solve
    from remora.agents.registry import create
    from remora.api.bench.build import build_problem
    from remora.schedule.serialize import schedule_to_json

    problem = recompute_only(build_problem(item))
    begin = time.perf_counter()
    exact = solve(problem, seconds, paces=((2, 1),))
    exact_s = time.perf_counter() - begin
    others = {name: run_member(create(name), problem, SEARCH_S) for name in ("rotor", "best")}
    times = {name: one.step_time_s if one.feasible else None for name, one in others.items()}
    fastest = min((t for t in times.values() if t is not None), default=math.inf)
    proven = (
        exact.schedule is not None and exact.proven and exact.step_time_s <= fastest * (1 + SAME)
    )
    return {
        "problem": item.name,
        "units": len(problem.graph.units),
        "proven": proven,
        "optimum_s": exact.step_time_s if exact.schedule is not None else None,
        "bound_s": exact.bound_s if math.isfinite(exact.bound_s) else None,
        "solver_s": exact_s,
        "others_s": times,
        "schedule": None
        if exact.schedule is None
        else json.loads(schedule_to_json(exact.schedule)),
    }


def main() -> None:
    """Solve all problems and write the record."""
    from remora.api.bench.suite import load_suite

    values = arguments(sys.argv[1:], {"out": str(RESULTS), "seconds": "60"})
    rows = []
    for item in load_suite(SUITE).problems:
        rows.append(solved(item, float(values["seconds"])))
        print(rows[-1]["problem"], rows[-1]["proven"], f"{rows[-1]['solver_s']:.1f} s", flush=True)
    about = context(
        f"python -m benchmarks.proven_chains seconds={values['seconds']}", ("numpy", "highspy")
    )
    cells = [
        [
            row["problem"],
            str(row["units"]),
            "yes" if row["proven"] else "no",
            "-" if row["optimum_s"] is None else f"{row['optimum_s'] * 1e3:.2f} ms",
            *(
                "-"
                if row["optimum_s"] is None or row["others_s"][name] is None
                else f"{(row['others_s'][name] / row['optimum_s'] - 1) * 100:+.2f} %"
                for name in ("rotor", "best")
            ),
            f"{row['solver_s']:.1f}",
        ]
        for row in rows
    ]
    proven = sum(row["proven"] for row in rows)
    body = f"{proven} of {len(rows)} proven.\n\n" + table(
        ("problem", "units", "proven", "optimum", "rotor", f"best, {SEARCH_S:g} s", "solver s"),
        cells,
    )
    record = {"context": about, "rows": rows}
    write(Path(values["out"]), "proven_chains", record, "Proven optima without a host", body)


if __name__ == "__main__":
    main()
