"""Pipelines run for real: gradients against one process, peaks of every rank against predictions.

Run `python -m benchmarks.pipelines [out=FOLDER] [models=a,b] [ranks=2]`, about ten minutes for all
13 tiny models on two ranks. Every model runs under every kind of pipeline, keeping everything and
with a random menu entry for every unit. Models whose buffers change are left out of Chimera.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.menu_options import MODELS, PACKAGES, problem_of
from benchmarks.prediction import model_values
from benchmarks.recording import RESULTS, arguments, context, table, write

KINDS = ("gpipe", "1f1b", "interleaved_1f1b", "zero_bubble", "dualpipe_v", "chimera")
PLANS = ("keep all", "random menu entries")
GRADIENT_LIMIT, PEAK_LIMIT = 1e-6, 0.03
LIMIT_S = 900.0


def problems(name: str, ranks: int) -> tuple[Any, Any, Any]:
    """Example, batch and problem of a model in so many micro-batches that every kind allows."""
    import dataclasses

    import torch

    from remora.graph.batch import split_batch, with_batch
    from remora.graph.trace import trace
    from remora.zoo.registry import build_target

    torch.manual_seed(0)
    example = build_target(*model_values(name))
    count = 2 * ranks
    inputs = with_batch(example.example_inputs, 2 * count)
    micro_batch = split_batch(inputs, count)[0]
    whole, part = (
        problem_of(trace(example.model, batch, example.loss)) for batch in (inputs, micro_batch)
    )
    hardware = dataclasses.replace(whole.hardware, devices_per_node=ranks)
    problem = dataclasses.replace(
        whole,
        graphs={1: whole.graph, count: part.graph},
        costs={1: whole.cost, count: part.cost},
        hardware=hardware,
        world_size=ranks,
    )
    return example, inputs, problem


def schedule_of(problem: Any, kind: str, plan: str) -> Any:
    """Stages of equally many units."""
    import dataclasses

    from remora.schedule.cuts import uniform_cuts
    from remora.schedule.menu import keep_all_schedule, unit_menu
    from remora.schedule.orders import allowed_chunks
    from remora.schedule.schedule import MemoryPlan, PipelineKind, PipelinePlan

    graph, count = problem.graph, max(problem.graphs)
    chosen = PipelineKind(kind)
    chunks = allowed_chunks(chosen).start
    cuts = uniform_cuts(len(graph.units), problem.world_size * chunks)
    schedule = keep_all_schedule(graph, PipelinePlan(chosen, cuts, chunks, count))
    if plan == PLANS[0]:
        return schedule
    draw = random.Random(kind)
    options = tuple(draw.choice(unit_menu(problem, unit)) for unit in graph.units)
    memory = MemoryPlan(options, (), draw.randint(1, 3), draw.randint(1, 2))
    return dataclasses.replace(schedule, memory=memory)


def run_on_rank(name: str, ranks: int, answer: Path) -> None:
    """What every rank runs for one model; rank 0 writes what it found."""
    import torch

    from remora.executor.pipeline.limits import check_runs_on_ranks
    from remora.executor.pipeline.verify import verify_on_ranks
    from remora.executor.pipeline.world import joined_ranks
    from remora.simulator.simulate import simulate

    example, inputs, problem = problems(name, ranks)
    graph = problem.graphs[max(problem.graphs)]
    changing = any(unit.mutated_buffers for unit in graph.units)
    rows: list[dict[str, Any]] = []
    with joined_ranks(torch.device("cpu"), 120.0):
        for kind in KINDS:
            if kind == "chimera" and changing:
                continue
            for plan in PLANS:
                schedule = schedule_of(problem, kind, plan)
                check_runs_on_ranks(example.model, graph, schedule, ranks)
                verdict = verify_on_ranks(
                    example.model,
                    inputs,
                    example.loss,
                    graph,
                    schedule,
                    device=torch.device("cpu"),
                    repetitions=0,
                )
                if verdict is not None:
                    predicted = simulate(problem, schedule).peak_bytes
                    rows.append(_row(name, kind, plan, verdict, predicted))
    if rows:
        answer.write_text(json.dumps(rows))


def _row(name: str, kind: str, plan: str, verdict: Any, predicted: Any) -> dict[str, Any]:
    measured = verdict.measurement.peak_by_rank_bytes
    pairs = zip(measured, predicted, strict=True)
    return {
        "model": name,
        "kind": kind,
        "plan": plan,
        "failures": list(verdict.failures),
        "max_gradient_difference": verdict.max_gradient_difference,
        "peak_by_rank_bytes": list(measured),
        "predicted_peak_by_rank_bytes": list(predicted),
        "peak_errors": [real / guess - 1 for real, guess in pairs],
    }


def measure(name: str, ranks: int) -> list[dict[str, Any]]:
    """Run one model on ranks of its own."""
    from remora.api.rank_processes import run_ranks

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        words = ["rank", name, str(ranks), str(answer)]
        ended = run_ranks("benchmarks.pipelines", words, ranks, LIMIT_S)
        if not answer.exists():
            return [{"model": name, "failed": f"{ended.status}: {ended.detail}"}]
        rows: list[dict[str, Any]] = json.loads(answer.read_text())
        return rows


def body(rows: list[dict[str, Any]]) -> str:
    """A row per kind, and one per model."""
    ran = [row for row in rows if "failed" not in row]
    lines = [_line(kind, [row for row in ran if row["kind"] == kind]) for kind in KINDS]
    models = sorted({row["model"] for row in rows})
    more = [_line(name, [row for row in ran if row["model"] == name]) for name in models]
    head = (
        "runs", "equal", "largest gradient difference",
        "peak error, median", "worst below", "worst above", f"within {PEAK_LIMIT:.0%}",
    )  # fmt: skip
    failed = [f"{row['model']}: {row['failed']}" for row in rows if "failed" in row]
    notes = "\n\nDied: " + "; ".join(failed) if failed else ""
    return (
        "Equal: loss, every gradient (to 1e-6 of its largest entry), buffers, random state and the "
        "parameters after three optimizer steps are those of one process. Peak errors are measured "
        "over predicted, for every rank.\n\n"
        + table(("kind", *head), lines)
        + "\n\n"
        + table(("model", *head), more)
        + notes
    )


def _line(label: str, rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return [label, "0", *["-"] * 6]
    errors = [error for row in rows for error in row["peak_errors"]]
    within = sum(abs(error) <= PEAK_LIMIT for error in errors)
    return [
        label,
        str(len(rows)),
        str(sum(not row["failures"] for row in rows)),
        f"{max(row['max_gradient_difference'] for row in rows):.1e}",
        f"{statistics.median(errors):+.2%}",
        f"{min(errors):+.2%}",
        f"{max(errors):+.2%}",
        f"{within} of {len(errors)}",
    ]


def main(words: list[str]) -> int:
    """Run every model, then write the record."""
    if words[:1] == ["rank"]:
        run_on_rank(words[1], int(words[2]), Path(words[3]))
        return 0
    values = arguments(words, {"out": str(RESULTS), "models": MODELS, "ranks": "2"})
    ranks = int(values["ranks"])
    rows: list[dict[str, Any]] = []
    for name in values["models"].split(","):
        rows += measure(name, ranks)
        print(f"{name}: {len(rows)} runs so far", file=sys.stderr, flush=True)
    command = " ".join(["python -m benchmarks.pipelines", *words])
    record = {"context": context(command, PACKAGES), "ranks": ranks, "rows": rows}
    name = "pipelines" if ranks == 2 else f"pipelines_{ranks}_ranks"
    title = f"Pipelines on {ranks} ranks against one process"
    write(Path(values["out"]), name, record, title, body(rows))
    return 0 if all(not row.get("failures") and "failed" not in row for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
