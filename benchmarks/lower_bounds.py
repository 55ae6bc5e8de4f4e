"""Lower bounds held against exact optima of the recompute-only chain problem.

Run `python -m benchmarks.lower_bounds [out=FOLDER] [chains=FILE]`, under a minute. The optima
are those of the golden chains that the tests hold the solver against.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

CHAINS = Path(__file__).parents[1] / "tests" / "data" / "rotor_chains.json"
SIZES = ("forward_time", "backward_time", "boundary_size", "saved_size", "backward_workspace")
MARGIN = 1e-6


def measure(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bound of every chain at every budget, and how long it took."""
    from remora.simulator.bounds.chains import RecomputeChain, chain_lower_bound

    rows = []
    for number, record in enumerate(records):
        chain = RecomputeChain(**{name: record[name] for name in SIZES})
        for case in record["optima"]:
            begin = time.perf_counter()
            bound = chain_lower_bound(chain, case["budget"])
            seconds = time.perf_counter() - begin
            rows.append(
                {
                    "chain": number,
                    "stages": len(record["forward_time"]),
                    "budget": case["budget"],
                    "ideal": record["ideal_makespan"],
                    "optimum": case["makespan"],
                    # JSON has no infinity: None where the bound says that nothing fits.
                    "bound": None if bound == float("inf") else bound,
                    "seconds": seconds,
                }
            )
    return rows


def line(label: str, rows: list[dict[str, Any]]) -> list[str]:
    """What the bounds of some chains are worth."""
    feasible = [row for row in rows if row["optimum"] is not None]
    paid = [row for row in feasible if row["optimum"] > row["ideal"] * (1 + MARGIN)]
    hopeless = [row for row in rows if row["optimum"] is None]
    bounds = [row["bound"] if row["bound"] is not None else float("inf") for row in feasible]
    pairs = list(zip(bounds, feasible, strict=True))
    below = sum(bound <= row["optimum"] * (1 + MARGIN) for bound, row in pairs)
    above = [row["bound"] is None or row["bound"] > row["ideal"] * (1 + MARGIN) for row in paid]
    shares = [row["bound"] / row["optimum"] for row in paid if row["bound"] is not None]
    return [
        label,
        f"{below} of {len(feasible)}",
        f"{sum(above)} of {len(paid)}",
        f"{statistics.mean(shares):.3f}" if shares else "-",
        f"{min(shares):.3f}" if shares else "-",
        f"{sum(row['bound'] is None for row in hopeless)} of {len(hopeless)}",
        f"{statistics.median(row['seconds'] for row in rows) * 1e3:.0f}",
    ]


def summary(rows: list[dict[str, Any]]) -> str:
    """One line per chain length, and all of them."""
    lengths = sorted({row["stages"] for row in rows})
    lines = [line(str(n), [row for row in rows if row["stages"] == n]) for n in lengths]
    lines.append(line("all", rows))
    head = ["stages", "bound not above optimum", "above ideal where the optimum is"]
    head += ["bound / optimum, mean", "least", "nothing fits, found", "ms (median)"]
    return (
        "Ideal = nothing recomputed. Ratios over the entries whose optimum is above ideal; "
        f"target: above ideal on at least 80 % of them.\n\n{table(head, lines)}"
    )


def main(words: list[str]) -> int:
    """Measure, write both files, print the table."""
    values = arguments(words, {"out": str(RESULTS), "chains": str(CHAINS)})
    rows = measure(json.loads(Path(values["chains"]).read_text()))
    about = context("python -m benchmarks.lower_bounds", ("numpy", "scipy"))
    record = {"context": about, "rows": rows}
    write(Path(values["out"]), "lower_bounds", record, "Lower bounds", summary(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
