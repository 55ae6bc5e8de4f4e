"""Time of the partition dynamic program: tables of both levels and all its trade-offs.

Run `python -m benchmarks.partition [out=FOLDER]`. Compilation happens once before the clock
starts and is reported apart.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

SLOTS = 200
REPETITIONS = 5
OPTIONS = 8
MICRO_BATCHES = 64
SIZES = ((24, 4), (48, 8), (96, 16), (192, 32))
SHARES = (0.2, 0.5, 1.0)


def random_program(units: int, stages: int) -> Any:
    """Uneven units with eight options each as a 1f1b pipeline: tables, menu and loads."""
    import numpy as np

    from remora.agents.exact.partition.loads import stage_loads
    from remora.agents.exact.partition.ranges import RangeTables
    from remora.agents.exact.partition.stage_menu import StageMenu
    from remora.schedule.schedule import PipelineKind, UnitOption

    draw = random.Random(units).uniform

    def ranges(low: float, high: float, largest: bool = False) -> Any:
        values = np.array([draw(low, high) for _ in range(units)])
        found = np.zeros((units + 1, units + 1))
        for start in range(units):
            every = np.maximum if largest else np.add
            found[start, start + 1 :] = every.accumulate(values[start:])
        return found

    nothing = np.zeros((units + 1, units + 1))
    tables = RangeTables(
        seconds=ranges(1.0, 5.0),
        state_bytes=ranges(5.0, 40.0),
        step_bytes=nothing,
        pass_bytes=nothing,
        work_bytes=ranges(5.0, 20.0, largest=True),
        arriving_bytes=nothing,
        returning_bytes=nothing,
    )
    options = [sorted(draw(1.0, 20.0) for _ in range(OPTIONS))[::-1] for _ in range(units)]
    held = np.array(options)
    extra = np.array([sorted(draw(0.05, 1.5) for _ in range(OPTIONS)) for _ in range(units)])
    extra[:, 0] = 0.0
    menu = StageMenu(((UnitOption(()),) * OPTIONS,) * units, held, extra)
    return tables, menu, stage_loads(PipelineKind.ONE_F_ONE_B, stages, MICRO_BATCHES, 1)


def measure(units: int, stages: int) -> dict[str, Any]:
    """Median seconds over `REPETITIONS`, and the best estimate over that of unlimited memory."""
    import numpy as np

    from remora.agents.exact.partition.program import (
        least_stage_bytes,
        partition_front,
        stage_seconds,
    )

    program = random_program(units, stages)
    tables, menu, loads = program
    least = partition_front(least_stage_bytes(*program))[-1].slowest
    kept = loads.in_flight[0] * menu.kept_bytes.sum() / stages + least
    free = np.repeat(tables.seconds[None], stages, axis=0)
    ideal_s = min(p.estimate_s(MICRO_BATCHES, 1.0, 1) for p in partition_front(free))
    stage_s, front_s, points, slowdown = [], [], [], {}
    for share in SHARES:
        limit = least + share * (kept - least)
        for _ in range(REPETITIONS):
            begin = time.perf_counter()
            stage = stage_seconds(*program, [limit] * stages, SLOTS)
            filled = time.perf_counter()
            front = partition_front(stage)
            end = time.perf_counter()
            stage_s.append(filled - begin)
            front_s.append(end - filled)
        points.append(len(front))
        best_s = min((p.estimate_s(MICRO_BATCHES, 1.0, 1) for p in front), default=None)
        slowdown[f"{share:.1f}"] = None if best_s is None else best_s / ideal_s
    return {
        "units": units,
        "ranks": stages,
        "slots": SLOTS,
        "options": OPTIONS,
        "stage_s": statistics.median(stage_s),
        "front_s": statistics.median(front_s),
        "slowest_total_s": max(a + b for a, b in zip(stage_s, front_s, strict=True)),
        "points": max(points),
        "estimate_over_ideal_by_memory_share": slowdown,
    }


def compile_seconds() -> float:
    """Seconds until the first answer in this process: loading numba, compiling or its cache."""
    begin = time.perf_counter()
    measure(4, 2)
    return time.perf_counter() - begin


def summary(rows: list[dict[str, Any]], first_answer_s: float) -> str:
    """One line per size."""
    head = ["units", "ranks", "stages s", "cuts s", "total s (slowest)", "trade-offs (most)"]
    head += [f"step / ideal at {share:.0%}" for share in SHARES]
    lines = []
    for row in rows:
        cells = [str(row["units"]), str(row["ranks"])]
        cells += [f"{row[key]:.3f}" for key in ("stage_s", "front_s", "slowest_total_s")]
        cells.append(str(row["points"]))
        for ratio in row["estimate_over_ideal_by_memory_share"].values():
            cells.append("-" if ratio is None else f"{ratio:.3f}")
        lines.append(cells)
    return (
        f"1f1b with {MICRO_BATCHES} micro-batches, {OPTIONS} options a unit, {SLOTS} memory slots. "
        "Estimate over ideal (nothing recomputed, unlimited memory) at shares of the memory "
        "between the least one and about that of keeping everything; `-` = nothing fits. One "
        f"thread. First answer of the process after {first_answer_s:.2f} s (loading and compiling, "
        f"or the compiler's cache).\n\n{table(head, lines)}"
    )


def main(words: list[str]) -> int:
    """Measure, write both files, print the table."""
    values = arguments(words, {"out": str(RESULTS)})
    first_answer_s = compile_seconds()
    rows = [measure(*size) for size in SIZES]
    record = {
        "context": context("python -m benchmarks.partition", ("numba", "numpy")),
        "first_answer_s": first_answer_s,
        "rows": rows,
    }
    body = summary(rows, first_answer_s)
    write(Path(values["out"]), "partition", record, "Partition dynamic program", body)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
