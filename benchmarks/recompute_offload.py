"""Time of the dynamic program over recomputation and host copies at 64 units and 500 slots.

Run `python -m benchmarks.recompute_offload [out=FOLDER]`. Compilation happens once before the
clock starts and is reported apart.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write
from benchmarks.rotor import random_chain

STAGES = 64
SLOTS = 500
REPETITIONS = 3
SHARES = (0.15, 0.25, 0.40)
# Time to move everything out over the time of the forward.
LINKS = (0.5, 1.0, 3.0, 10.0, 30.0)
# Most slots on their way at once.
LIMITS = (100, None)


def random_problem(stages: int, link: float) -> Any:
    """An uneven chain of which every set and every input can move."""
    from remora.agents.exact.chains.offload_chain import OffloadChain, StageOption

    chain = random_chain(stages, seed=stages)
    inputs = [0.0, *chain.boundary_size[1:-1]]
    sizes = [inputs[i] + chain.saved_size[i] - chain.boundary_size[i + 1] for i in range(stages)]
    part_time = link * sum(chain.forward_time) / sum(sizes)
    options = [[StageOption(0.0, 0.0, size)] for size in sizes]
    return OffloadChain(chain, options, inputs, part_time, part_time)


def measure(link: float, limit: int | None) -> dict[str, Any]:
    """Median seconds of a table and of a plan, and optimum over ideal time at memory shares."""
    from remora.agents.exact.chains.offload_table import build_offload_table
    from remora.agents.exact.chains.rotor_chain import keep_all_need

    problem = random_problem(STAGES, link)
    chain = problem.chain
    keep_all = float(chain.boundary_size[0] + keep_all_need(chain))
    ideal = sum(chain.forward_time) + sum(chain.backward_time)
    table_s, plan_s = [], []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        filled = build_offload_table(problem, keep_all, slots=SLOTS, most_slots=limit)
        middle = time.perf_counter()
        plans = [filled.solve(share * keep_all).makespan for share in SHARES]
        table_s.append(middle - begin)
        plan_s.append((time.perf_counter() - middle) / len(SHARES))
    kept = [filled.rotor.solve(share * keep_all).makespan for share in SHARES]
    return {
        "stages": STAGES,
        "slots": SLOTS,
        "copy_all_over_forward": link,
        "most_slots": limit,
        "most_parts_on_their_way": filled.times.shape[1] - 1,
        "table_s": statistics.median(table_s),
        "slowest_table_s": max(table_s),
        "plan_s": statistics.median(plan_s),
        "makespan_over_ideal": [None if plan is None else plan / ideal for plan in plans],
        "recompute_only_over_ideal": [None if plan is None else plan / ideal for plan in kept],
    }


def compile_seconds() -> float:
    """Seconds until the first answer in this process: loading numba, compiling or its cache."""
    begin = time.perf_counter()
    from remora.agents.exact.chains.offload_table import solve_offload_chain

    solve_offload_chain(random_problem(3, 1.0), 12.0, slots=10)
    return time.perf_counter() - begin


def summary(rows: list[dict[str, Any]], first_answer_s: float) -> str:
    """One line per link."""
    head = [
        "copy all / forward",
        "limit",
        "most parts",
        "table s (median)",
        "table s (slowest)",
        "plan s",
    ]
    head += [f"time / ideal at {share:.0%} (recompute only)" for share in SHARES]
    lines = []
    for row in rows:
        limit = "none" if row["most_slots"] is None else str(row["most_slots"])
        cells = [f"{row['copy_all_over_forward']:g}", limit, str(row["most_parts_on_their_way"])]
        cells += [f"{row[key]:.3f}" for key in ("table_s", "slowest_table_s", "plan_s")]
        ratios = zip(row["makespan_over_ideal"], row["recompute_only_over_ideal"], strict=True)
        cells += [f"{_ratio(both)} ({_ratio(kept)})" for both, kept in ratios]
        lines.append(cells)
    return (
        f"{STAGES} stages, {SLOTS} slots; limit: most slots on their way to the host at once. "
        "Time over ideal (nothing recomputed, no wait) at shares of the memory that keeps "
        "everything; `-` = nothing fits. "
        f"One thread. First answer of the process after {first_answer_s:.2f} s (loading and "
        f"compiling, or the compiler's cache).\n\n{table(head, lines)}"
    )


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main(words: list[str]) -> int:
    """Measure, write both files, print the table."""
    values = arguments(words, {"out": str(RESULTS)})
    first_answer_s = compile_seconds()
    rows = [measure(link, limit) for link in LINKS for limit in LIMITS]
    record = {
        "context": context("python -m benchmarks.recompute_offload", ("numba", "numpy")),
        "first_answer_s": first_answer_s,
        "rows": rows,
    }
    body = summary(rows, first_answer_s)
    title = "Dynamic program over recomputation and host copies"
    write(Path(values["out"]), "recompute_offload", record, title, body)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
