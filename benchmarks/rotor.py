"""Time of the rotor dynamic program at 500 memory slots, table and plan together.

Run `python -m benchmarks.rotor [out=FOLDER]`. Compilation happens once before the
clock starts and is reported apart.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

SLOTS = 500
REPETITIONS = 5
STAGES = (25, 50, 100)
SHARES = (0.15, 0.25, 0.40, 0.50)


def random_chain(stages: int, seed: int) -> Any:
    """A chain with uneven times and sizes, as a network that narrows and widens has."""
    from remora.agents.exact.chains.rotor import Chain

    draw = random.Random(seed).uniform
    forward_time = [draw(1.0, 5.0) for _ in range(stages)]
    boundary_size = [draw(1.0, 4.0) for _ in range(stages + 1)]
    return Chain(
        forward_time=forward_time,
        backward_time=[draw(1.5, 2.5) * time for time in forward_time],
        boundary_size=boundary_size,
        saved_size=[boundary_size[i + 1] + draw(2.0, 12.0) for i in range(stages)],
        forward_workspace=[draw(0.0, 1.0) for _ in range(stages)],
        backward_workspace=[draw(0.0, 2.0) for _ in range(stages)],
    )


def measure(stages: int) -> dict[str, Any]:
    """Median seconds over `REPETITIONS`, and optimum over ideal time at each memory share."""
    from remora.agents.exact.chains.rotor import build_table, solve_chain

    chain = random_chain(stages, seed=stages)
    full = build_table(chain, budget=1e9, slots=1)
    keep_all = float(full.unit) + chain.boundary_size[0]
    ideal = sum(chain.forward_time) + sum(chain.backward_time)
    table_s, plan_s, total_s, overhead = [], [], [], {}
    for share in SHARES:
        budget = share * keep_all
        for _ in range(REPETITIONS):
            begin = time.perf_counter()
            table = build_table(chain, budget, slots=SLOTS)
            filled = time.perf_counter()
            solution = table.solve(budget)
            end = time.perf_counter()
            table_s.append(filled - begin)
            plan_s.append(end - filled)
            total_s.append(end - begin)
        assert solution == solve_chain(chain, budget, slots=SLOTS)
        overhead[f"{share:.2f}"] = None if solution.makespan is None else solution.makespan / ideal
    return {
        "stages": stages,
        "slots": SLOTS,
        "table_s": statistics.median(table_s),
        "plan_s": statistics.median(plan_s),
        "total_s": statistics.median(total_s),
        "slowest_total_s": max(total_s),
        "makespan_over_ideal_by_memory_share": overhead,
    }


def compile_seconds() -> float:
    """Seconds until the first answer in this process: loading numba, compiling or its cache."""
    begin = time.perf_counter()
    from remora.agents.exact.chains.rotor import solve_chain

    solve_chain(random_chain(3, seed=0), 12.0, slots=10)
    return time.perf_counter() - begin


def summary(rows: list[dict[str, Any]], first_answer_s: float) -> str:
    """One line per chain length."""
    head = ["stages", "slots", "table s", "plan s", "total s (median)", "total s (slowest)"]
    head += [f"time / ideal at {share:.0%}" for share in SHARES]
    lines = []
    for row in rows:
        cells = [str(row["stages"]), str(row["slots"])]
        cells += [f"{row[key]:.3f}" for key in ("table_s", "plan_s", "total_s", "slowest_total_s")]
        for ratio in row["makespan_over_ideal_by_memory_share"].values():
            cells.append("-" if ratio is None else f"{ratio:.3f}")
        lines.append(cells)
    return (
        "Time over ideal (nothing recomputed) at shares of the memory that recomputes nothing; "
        f"`-` = nothing fits. One thread. First answer of the process after {first_answer_s:.2f} s "
        f"(loading and compiling, or the compiler's cache).\n\n{table(head, lines)}"
    )


def main(words: list[str]) -> int:
    """Measure, write both files, print the table."""
    values = arguments(words, {"out": str(RESULTS)})
    first_answer_s = compile_seconds()
    rows = [measure(stages) for stages in STAGES]
    record = {
        "context": context("python -m benchmarks.rotor", ("numba", "numpy")),
        "first_answer_s": first_answer_s,
        "rows": rows,
    }
    body = summary(rows, first_answer_s)
    write(Path(values["out"]), "rotor", record, "Rotor dynamic program", body)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
