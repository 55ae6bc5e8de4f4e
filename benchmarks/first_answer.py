"""How long scheduler ``best`` takes to its first schedule that fits, on the problems of suites.

Run `python -m benchmarks.first_answer [suites=single,pipeline] [out=FOLDER]` with nothing else
running. The kernels are loaded before the first problem; tables of a problem that are made while
its budget is worked out, as `remora optimize` does, are not part of the clock.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

TARGET_S = 0.2
LIMIT_S = 10.0


def first_answer(item: Any) -> dict[str, Any]:
    """Seconds until the first candidate that fits, and which one it was."""
    from remora.agents.best import Best
    from remora.agents.candidates import Candidate
    from remora.api.bench.build import build_problem
    from remora.simulator.floor import floor_peak_bytes

    problem = build_problem(item)
    floor_peak_bytes(problem)
    found: list[tuple[float, str]] = []
    start_s = time.perf_counter()

    def stop(candidate: Candidate) -> None:
        if candidate.feasible:
            found.append((time.perf_counter() - start_s, candidate.name))
            raise KeyboardInterrupt

    Best().propose_with_candidates(problem, LIMIT_S, stop)
    seconds, name = found[0]
    return {"problem": item.name, "world_size": item.world_size, "first_s": seconds, "by": name}


def main(words: list[str]) -> None:
    """Measure and write the record."""
    values = arguments(words, {"suites": "single,pipeline", "out": str(RESULTS)})
    from remora.api.bench.suite import load_suite

    names = values["suites"].split(",")
    items = [(name, item) for name in names for item in load_suite(name).problems]
    first_answer(items[0][1])
    rows = [{"suite": name, **first_answer(item)} for name, item in items]
    record = {
        "context": context("python -m benchmarks.first_answer", ("torch", "numba")),
        "target_s": TARGET_S,
        "rows": rows,
    }
    lines = []
    for name in names:
        times = [row["first_s"] for row in rows if row["suite"] == name]
        within = sum(seconds <= TARGET_S for seconds in times)
        lines.append(
            [
                name,
                str(len(times)),
                f"{1e3 * statistics.median(times):.0f} ms",
                f"{1e3 * max(times):.0f} ms",
                f"{within} of {len(times)}",
            ]
        )
    head = ["suite", "problems", "median", "slowest", "within 0.2 s"]
    title = "Seconds until `best` has its first schedule that fits"
    write(Path(values["out"]), "first_answer", record, title, table(head, lines))


if __name__ == "__main__":
    main(sys.argv[1:])
