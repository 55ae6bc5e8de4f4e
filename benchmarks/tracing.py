"""Time and memory of tracing models that are never allocated, and of `remora --help`.

Run `python -m benchmarks.tracing [out=FOLDER] [models=a,b]`. Every model is traced in a process of
its own; memory is that process's largest resident size, imports included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.prediction import model_values
from benchmarks.recording import RESULTS, arguments, context, table, write

MODELS = "llama_7b,llama_1b,gpt2_medium,mamba2_130m,swin_tiny,resnet101,unet,fno2d"


def trace_one(name: str) -> dict[str, Any]:
    """Trace one model and say what it took."""
    from remora.graph.trace import trace
    from remora.zoo.fake import build_without_memory

    started = time.perf_counter()
    example = build_without_memory(*model_values(name))
    built = time.perf_counter()
    graph = trace(*example)
    traced = time.perf_counter()
    return {
        "model": name,
        "build_s": built - started,
        "trace_s": traced - built,
        "ops": len(graph.ops),
        "units": len(graph.units),
        "kinds": len({unit.kind for unit in graph.units}),
        "parameter_bytes": graph.parameter_bytes,
        "process_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def help_seconds() -> float:
    """Fastest of five runs of ``remora --help``."""
    command = [str(Path(sys.executable).with_name("remora")), "--help"]
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return min(times)


def main(words: list[str]) -> int:
    """Trace every model in its own process, then write the record."""
    values = arguments(words, {"out": str(RESULTS), "models": MODELS, "one": ""})
    if values["one"]:
        print(json.dumps(trace_one(values["one"])))
        return 0
    rows = []
    for name in values["models"].split(","):
        command = [sys.executable, "-m", "benchmarks.tracing", f"one={name}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    lines = [
        [
            row["model"],
            f"{row['parameter_bytes'] / 2**30:.2f}",
            str(row["ops"]),
            f"{row['units']} of {row['kinds']} kinds",
            f"{row['build_s']:.2f}",
            f"{row['trace_s']:.2f}",
            f"{row['process_memory_bytes'] / 2**30:.2f}",
        ]
        for row in rows
    ]
    head = ["model", "parameters GiB", "operators", "units", "build s", "trace s", "memory GiB"]
    help_s = help_seconds()
    record = {
        "context": context("python -m benchmarks.tracing", ("torch", "transformers")),
        "help_s": help_s,
        "rows": rows,
    }
    body = f"`remora --help` answers in {help_s:.3f} s.\n\n{table(head, lines)}"
    write(Path(values["out"]), "tracing", record, "Tracing without memory", body)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
