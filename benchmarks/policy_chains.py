"""The policy on the recompute-only problems of suite `single` whose optimum is proven.

Run `python -m benchmarks.policy_chains [policy=default] [seconds=1] [out=FOLDER]`, a few minutes;
optima are read from `proven_chains.json`. Every method that searches has the same time, tables of
the environment included; random plans are drawn from the same environment under the same masks.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.proven_chains import SUITE, recompute_only
from benchmarks.recording import RESULTS, arguments, context, table, write

TARGETS = {
    "64 samples + local search": "<= 0.3 % median, <= 1 % at the 95th percentile",
    "greedy decode": "<= 1.5 % median",
}


def methods(policy: str) -> dict[str, Any]:
    """What is compared, by name."""
    from remora.agents.learned.scheduler import Learned
    from remora.agents.registry import create

    learned = Learned(policy=policy)
    return {
        "greedy decode": replace(learned, decode="greedy", search=False),
        "64 samples": replace(learned, search=False),
        "64 samples + local search": learned,
        "64 random plans + local search": replace(learned, decode="random"),
        "local search from the greedy plan": create("local_search"),
        "greedy plan": create("greedy"),
    }


def solved(item: Any, optimum_s: float, policy: str, seconds: float) -> list[dict[str, Any]]:
    """One problem by every method."""
    from remora.agents.candidates import run_member
    from remora.api.bench.build import build_problem

    rows = []
    for name, scheduler in methods(policy).items():
        # A problem of its own for each, since tables that one made would be there for the next.
        problem = recompute_only(build_problem(item))
        begun = time.perf_counter()
        found = run_member(scheduler, problem, seconds)
        search_s = time.perf_counter() - begun
        gap = found.step_time_s / optimum_s - 1 if found.feasible else None
        rows.append({"problem": item.name, "method": name, "gap": gap, "search_s": search_s})
    return rows


def summary(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells of one method."""
    own = [row for row in rows if row["method"] == name]
    gaps = sorted(row["gap"] for row in own if row["gap"] is not None)
    highest = gaps[min(len(gaps) - 1, round(0.95 * (len(gaps) - 1)))]
    shown = [f"{100 * value:.2f} %" for value in (statistics.median(gaps), highest, gaps[-1])]
    search_s = statistics.median(row["search_s"] for row in own)
    target = TARGETS.get(name, "-")
    return [name, str(len(own)), *shown, str(len(own) - len(gaps)), f"{search_s:.2f}", target]


def main() -> None:
    """Measure and write the record."""
    from remora.api.bench.suite import load_suite

    given = {"out": str(RESULTS), "policy": "default", "seconds": "1"}
    values = arguments(sys.argv[1:], given)
    known = json.loads((RESULTS / "proven_chains.json").read_text())["rows"]
    optimum_s = {row["problem"]: row["optimum_s"] for row in known if row["proven"]}
    policy, seconds = values["policy"], float(values["seconds"])
    rows: list[dict[str, Any]] = []
    for item in load_suite(SUITE).problems:
        if item.name in optimum_s:
            rows += solved(item, optimum_s[item.name], policy, seconds)
            print(item.name, [row["gap"] for row in rows[-len(methods(policy)) :]], flush=True)
    head = ("method", "problems", "median", "95 %", "worst", "infeasible", "seconds", "asked")
    body = (
        f"Step time over the proven optimum; {values['seconds']} s for every search.\n\n"
        + table(head, [summary(name, rows) for name in methods(policy)])
    )
    command = f"python -m benchmarks.policy_chains policy={policy} seconds={values['seconds']}"
    record = {"context": context(command, ("numpy", "torch")), "rows": rows}
    write(Path(values["out"]), "policy_chains", record, "The policy on proven chains", body)


if __name__ == "__main__":
    main()
