"""What rounds of measuring and learning change: prediction error and the fastest verified step.

Run `python -m benchmarks.closed_loop [out=FOLDER] [models=a,b] [rounds=3] [range=0.4]`. Every model
is planned by `remora optimize cost_model=gnn` in a process of its own on one thread. The models
are planned in batches that the shipped cost model was not trained on. Let nothing else run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

MODELS = "gpt2_tiny,vit_tiny,t5_tiny,resnet_tiny,unet_tiny,fno2d_tiny,mamba2_tiny"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
BATCH = 5
PACKAGES = ("torch", "torch-geometric", "numba")


def rounds_of(model: str, rounds: str, share: str, folder: Path) -> list[dict[str, Any]]:
    """Run the loop on one model and return its rounds."""
    words = [
        *("optimize", f"model={model}", f"model.values.batch={BATCH}", "hardware=local"),
        *("hardware.host_pool=emulated", "cost_model=gnn", f"rounds={rounds}"),
        *(f"memory=range:{share}", "time_limit_s=5", f"out={folder / model}"),
    ]
    command = [sys.executable, "-m", "remora.cli.main", *words]
    subprocess.run(command, check=True, env=os.environ | ONE_THREAD, stdout=subprocess.DEVNULL)
    values = json.loads((folder / model / "rounds.json").read_text())
    return [{"model": model, **one} for one in values["rounds"]]


def summary(rows: list[dict[str, Any]]) -> str:
    """One line per model and round."""
    head = ["model", "round", "schedules", "step error", "peak error", "fastest verified ms"]
    lines = [
        [
            row["model"],
            str(row["number"]),
            str(row["measured"]),
            _share(row["step_error"], 1),
            _share(row["peak_error"], 2),
            "-" if row["best_s"] is None else f"{row['best_s'] * 1e3:.2f}",
        ]
        for row in rows
    ]
    return (
        "Errors are those of what was predicted before the schedules of a round were measured.\n\n"
        + table(head, lines)
    )


def _share(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}%}"


def main(words: list[str]) -> int:
    """Run every model, then write the record."""
    values = arguments(
        words, {"out": str(RESULTS), "models": MODELS, "rounds": "3", "range": "0.4"}
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in values["models"].split(","):
            rows += rounds_of(model, values["rounds"], values["range"], Path(folder))
            print(model, file=sys.stderr)
    # The folder of the files says nothing of the figures.
    told = [word for word in words if not word.startswith("out=")]
    command = " ".join(["python -m benchmarks.closed_loop", *told])
    record = {"context": context(command, PACKAGES), "rows": rows}
    write(Path(values["out"]), "closed_loop", record, "The closed loop", summary(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
