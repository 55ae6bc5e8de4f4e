"""The policy on the recompute-only problems of suite `single` whose optimum is proven.

Run `python -m benchmarks.policy_chains [policies=default] [seconds=1] [out=FOLDER]`, a few minutes
for each; optima are read from `proven_chains.json`. Policies are names or folders, separated by
commas, such as those of several seeds: figures are those of the one in the middle, the least and
the largest follow. Every method that searches has the same time, tables of the environment
included; random plans are drawn from the same environment under the same masks.
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
from remora.garbage import settled

TARGETS = {
    "64 samples + local search": "<= 0.3 % median, <= 1 % at the 95th percentile",
    "greedy decode": "<= 1.5 % median",
}


def methods(policies: Sequence[str]) -> list[tuple[str, int | None, Any]]:
    """What is compared: name, number of the policy if it asks one, scheduler."""
    from remora.agents.learned.scheduler import Learned
    from remora.agents.registry import create

    found: list[tuple[str, int | None, Any]] = []
    for number, policy in enumerate(policies):
        learned = Learned(policy=policy)
        found += [
            ("greedy decode", number, replace(learned, decode="greedy", search=False)),
            ("64 samples", number, replace(learned, search=False)),
            ("64 samples + local search", number, learned),
        ]
    return [
        *found,
        ("64 random plans + local search", None, Learned(decode="random")),
        ("local search from the greedy plan", None, create("local_search")),
        ("greedy plan", None, create("greedy")),
    ]


def solved(
    item: Any, optimum_s: float, policies: Sequence[str], seconds: float
) -> list[dict[str, Any]]:
    """One problem by every method."""
    from remora.agents.candidates import run_member
    from remora.api.bench.build import build_problem

    rows = []
    for name, policy, scheduler in methods(policies):
        # A problem of its own for each, since tables that one made would be there for the next.
        problem = recompute_only(build_problem(item))
        with settled():
            begun = time.perf_counter()
            found = run_member(scheduler, problem, seconds)
            search_s = time.perf_counter() - begun
        gap = found.step_time_s / optimum_s - 1 if found.feasible else None
        row = {"problem": item.name, "method": name, "gap": gap, "search_s": search_s}
        rows.append(row if policy is None else {**row, "policy": policy})
    return rows


def summary(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells of one method: of its policy in the middle, and between which the others are."""
    own = [row for row in rows if row["method"] == name]
    each = [
        [row["gap"] for row in own if row.get("policy") == policy and row["gap"] is not None]
        for policy in dict.fromkeys(row.get("policy") for row in own)
    ]
    shown = [spread([of(gaps) for gaps in each]) for of in (statistics.median, highest, max)]
    problems, answers = len({row["problem"] for row in own}), sum(map(len, each))
    search_s = statistics.median(row["search_s"] for row in own)
    target = TARGETS.get(name, "-")
    return [name, str(problems), *shown, str(len(own) - answers), f"{search_s:.2f}", target]


def highest(gaps: Sequence[float]) -> float:
    """The 95th percentile."""
    return sorted(gaps)[min(len(gaps) - 1, round(0.95 * (len(gaps) - 1)))]


def spread(values: Sequence[float]) -> str:
    """A percentage, and in brackets the least and the largest where there are several."""
    middle, least, most = statistics.median(values), min(values), max(values)
    text = f"{100 * middle:.2f} %"
    return text if len(values) == 1 else f"{text} ({100 * least:.2f} to {100 * most:.2f})"


def main() -> None:
    """Measure and write the record."""
    from remora.api.bench.suite import load_suite

    given = {"out": str(RESULTS), "policies": "default", "seconds": "1"}
    values = arguments(sys.argv[1:], given)
    known = json.loads((RESULTS / "proven_chains.json").read_text())["rows"]
    optimum_s = {row["problem"]: row["optimum_s"] for row in known if row["proven"]}
    policies, seconds = values["policies"].split(","), float(values["seconds"])
    rows: list[dict[str, Any]] = []
    for item in load_suite(SUITE).problems:
        if item.name in optimum_s:
            rows += solved(item, optimum_s[item.name], policies, seconds)
            print(
                item.name, [row["gap"] for row in rows if row["problem"] == item.name], flush=True
            )
    head = ("method", "problems", "median", "95 %", "worst", "infeasible", "seconds", "asked")
    names = dict.fromkeys(row["method"] for row in rows)
    body = (
        f"Step time over the proven optimum; {values['seconds']} s for every search.\n\n"
        + table(head, [summary(name, rows) for name in names])
    )
    command = "python -m benchmarks.policy_chains " + " ".join(
        f"{key}={values[key]}" for key in ("policies", "seconds")
    )
    record = {"context": context(command, ("numpy", "torch")), "rows": rows}
    write(Path(values["out"]), "policy_chains", record, "The policy on proven chains", body)


if __name__ == "__main__":
    main()
