"""Random menu options run for real: gradients to the bit, peak predicted against measured.

Run `python -m benchmarks.menu_options [out=FOLDER] [models=a,b] [plans=50]`, about a quarter of
an hour for all 13 tiny models. Every unit takes a random entry of its menu, every plan a random
window and distance. Writes two tables: the first five plans of every model, and all of them.
"""

from __future__ import annotations

import random
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.prediction import model_values
from benchmarks.recording import RESULTS, arguments, context, table, write

MODELS = (
    "gpt2_tiny,llama_tiny,qwen3_tiny,bert_tiny,t5_tiny,mamba2_tiny,vit_tiny,swin_test,"
    "resnet_tiny,convnext_test,unet_tiny,fno2d_tiny,climate_unet_tiny"
)
PACKAGES = ("torch", "transformers", "neuraloperator")
FEW = 5
LIMIT = 0.02


def problem_of(graph: Any) -> Any:
    """Workspace inside operators is measured; times do not matter for the peak."""
    import torch

    from remora.cost_models.roofline import roofline_costs
    from remora.executor.replay.workspace import measure_workspace
    from remora.graph.signature import op_signature
    from remora.hardware.local import measure_local
    from remora.schedule.problem import OPTIMIZERS, Problem

    hardware = measure_local(host_pool="emulated")
    signatures = {op_signature(graph, op) for op in graph.ops}
    workspaces, _ = measure_workspace(graph, signatures, torch.device("cpu"))
    costs = roofline_costs(graph, hardware, workspaces=workspaces)
    return Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["adamw"], 2**60)


def random_plan(problem: Any, seed: int) -> Any:
    """A menu entry for every unit, a window and a distance."""
    from remora.schedule.menu import unit_menu
    from remora.schedule.schedule import MemoryPlan, Schedule

    draw = random.Random(seed)
    graph = problem.graph
    options = tuple(draw.choice(unit_menu(problem, unit)) for unit in graph.units)
    memory = MemoryPlan(options, (), draw.randint(1, 3), draw.randint(1, 2))
    return Schedule(graph.content_hash, memory)


def measure(name: str, plans: int) -> list[dict[str, Any]]:
    """Run every plan of a model."""
    import torch

    from remora.executor.compare import run_once
    from remora.executor.cpu_memory import cpu_peak_bytes
    from remora.executor.memory.install import apply
    from remora.executor.step import TrainingStep, preserved
    from remora.graph.trace import trace
    from remora.simulator.simulate import simulate
    from remora.zoo import build_target

    torch.manual_seed(0)
    model, example_inputs, loss = build_target(*model_values(name))
    graph = trace(model, example_inputs, loss)
    problem = problem_of(graph)
    rows = []
    with preserved(model) as state:
        plain = run_once(model, example_inputs, loss, seed=0)
        state.restore()
        step = TrainingStep(model, example_inputs, loss, "adamw")
        step.run()
    for seed in range(plans):
        plan = random_plan(problem, seed)
        with preserved(model) as state, apply(model, graph, plan):
            outcome = run_once(model, example_inputs, loss, seed=0)
            state.restore()
            measured_bytes = step.resident_bytes() + cpu_peak_bytes(step.run)
        rows.append(
            {
                "model": name,
                "seed": seed,
                "equal": same(plain, outcome),
                "mixed_units": sum(len(option.distinct) > 1 for option in plan.memory.options),
                "predicted_peak_bytes": simulate(problem, plan).max_peak_bytes,
                "measured_peak_bytes": measured_bytes,
            }
        )
    return rows


def same(a: Any, b: Any) -> bool:
    """Whether loss, gradients, buffers and random state of two runs are equal bit by bit."""
    import torch

    pairs = [(a.loss, b.loss), *zip(a.random_states, b.random_states, strict=True)]
    pairs += [(value, b.buffers[name]) for name, value in a.buffers.items()]
    for name, gradient in a.gradients.items():
        if gradient is None or b.gradients[name] is None:
            if gradient is not b.gradients[name]:
                return False
            continue
        pairs.append((gradient, b.gradients[name]))
    return all(torch.equal(first, second) for first, second in pairs)


def summary(rows: list[dict[str, Any]]) -> str:
    """One line per model."""
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        errors = [r["predicted_peak_bytes"] / r["measured_peak_bytes"] - 1 for r in mine]
        sizes = [abs(error) for error in errors]
        lines.append(
            [
                name,
                str(len(mine)),
                f"{sum(row['equal'] for row in mine)}",
                f"{statistics.mean(row['mixed_units'] for row in mine):.1f}",
                f"{statistics.median(sizes):.3%}",
                f"{min(errors):+.2%} to {max(errors):+.2%}",
                f"{sum(size <= LIMIT for size in sizes)}",
            ]
        )
    head = ["model", "plans", "equal to the bit", "mixed units", "median error"]
    head += ["peak error", f"within {LIMIT:.0%}"]
    equal = sum(row["equal"] for row in rows)
    return (
        f"{equal} of {len(rows)} plans give loss, gradients, buffers and random state equal to the "
        f"plain model's, bit by bit. `mixed units` = units per plan whose saved tensors do not all "
        f"have the same action. Error = predicted over measured peak.\n\n{table(head, lines)}"
    )


def main(words: list[str]) -> int:
    """Measure, write both tables."""
    import torch

    values = arguments(words, {"out": str(RESULTS), "models": MODELS, "plans": "50"})
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in values["models"].split(","):
        rows += measure(name, int(values["plans"]))
        print(f"{name}: {len(rows)} plans so far", file=sys.stderr)
    about = context("python -m benchmarks.menu_options", PACKAGES)
    few = [row for row in rows if row["seed"] < FEW]
    folder = Path(values["out"])
    for label, chosen in (("menu_options_few", few), ("menu_options", rows)):
        record = {"context": about, "rows": chosen}
        write(folder, label, record, "Random menu options, run", summary(chosen))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
