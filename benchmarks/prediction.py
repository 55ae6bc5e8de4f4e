"""Predicted against measured peak memory and step time, for tiny models and mixed plans.

Run `python -m benchmarks.prediction [out=FOLDER] [models=a,b] [mixes=N]`. For every model one
process traces it without its memory and predicts the peaks; another, which gets only the plans,
builds it, predicts the step times (it measures the host time of the model's own forward, too),
runs them and measures, on one thread. Let nothing else run: the times are compared too.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

MODELS = "gpt2_tiny,bert_tiny,resnet_tiny,unet_tiny,fno2d_tiny,t5_tiny,llama_tiny,swin_test"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Operators of tiny models spend more time on handing work to a second thread than on the work."""

PACKAGES = ("torch", "transformers", "neuraloperator", "numba")


def model_values(name: str) -> tuple[str, dict[str, Any]]:
    """Target and values of a model of the zoo."""
    import yaml

    import remora.conf

    folder = Path(remora.conf.__file__).parent / "model"
    content = yaml.safe_load((folder / f"{name}.yaml").read_text())
    return content["target"], content["values"]


def predict(name: str, mixes: int, folder: Path) -> None:
    """Trace without memory, measure single operators and units, predict; leaves plans behind."""
    from remora.agents.heuristics.space import Space
    from remora.api.costs import make_costs
    from remora.graph.trace import trace
    from remora.hardware.local import measure_local
    from remora.schedule.menu import keep_all_schedule
    from remora.schedule.problem import OPTIMIZERS, Problem
    from remora.schedule.serialize import schedule_to_json
    from remora.simulator.floor import floor_schedule
    from remora.simulator.simulate import simulate
    from remora.zoo.fake import build_without_memory

    graph = trace(*build_without_memory(*model_values(name)))
    hardware = measure_local(host_pool="emulated")
    costs = make_costs(graph, hardware, OPTIMIZERS["adamw"], "profiled")
    problem = Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["adamw"], 2**60)
    space = Space(problem)
    plans = {"keep all": keep_all_schedule(graph), "floor": floor_schedule(problem)}
    every = [unit for unit, menu in enumerate(space.menus) if len(menu) > 1]
    for position, action in ((1, "recompute all"), (-1, "offload all")):
        plans[action] = space.with_choices(
            space.keep_all, {unit: space.choices[unit][position] for unit in every}
        )
    for seed in range(mixes):
        plans[f"mix {seed}"] = random_mix(problem, seed)
    for position, (label, plan) in enumerate(plans.items()):
        timeline = simulate(problem, plan)
        record = {
            "model": name,
            "plan": label,
            "predicted_peak_bytes": timeline.max_peak_bytes,
            "schedule": schedule_to_json(plan),
        }
        (folder / f"{name}.{position}.json").write_text(json.dumps(record))


def random_mix(problem: Any, seed: int) -> Any:
    """A random plan: options and nested groups with offloaded checkpoints."""
    from remora.schedule.menu import unit_menu
    from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule

    rng = random.Random(seed)
    units = problem.graph.units
    last = max(unit.index for unit in units if not unit.fixed_reason)
    groups: list[Group] = []
    start = rng.randint(0, 2)
    while start < last - 1:
        end = min(start + rng.randint(2, 5), last + 1)
        inner = (Group(start, start + (end - start) // 2),) if end - start > 3 else ()
        checkpoint = Action.OFFLOAD if rng.random() < 0.3 else Action.KEEP
        groups.append(Group(start, end, checkpoint, inner))
        start = end + rng.randint(1, 4)
    inside = {i for group in groups for i in range(group.start, group.end)}
    options = []
    for unit in units:
        menu = unit_menu(problem, unit)
        options.append(rng.choice(menu[:2] if unit.index in inside else menu))
    memory = MemoryPlan(tuple(options), tuple(groups), rng.randint(1, 3), rng.randint(1, 2))
    return Schedule(problem.graph.content_hash, memory)


def measure(name: str, folder: Path) -> None:
    """Build the model for real and measure every plan that ``predict`` left."""
    import torch

    from remora.cost_models.measurement_cache import collect_measurements
    from remora.cost_models.profiled import profiled_costs
    from remora.executor.measure import measure_step
    from remora.executor.memory.install import apply
    from remora.executor.replay.replayer import Replayer
    from remora.graph.trace import trace
    from remora.hardware.local import measure_local
    from remora.schedule.problem import OPTIMIZERS, Problem
    from remora.schedule.serialize import schedule_from_json
    from remora.simulator.simulate import simulate
    from remora.zoo import build_target

    torch.manual_seed(0)
    model, example_inputs, loss = build_target(*model_values(name))
    graph = trace(model, example_inputs, loss)
    hardware = measure_local(host_pool="emulated")
    replayer = Replayer(model=model, example_inputs=example_inputs, loss=loss)
    costs = profiled_costs(
        graph, hardware, collect_measurements(graph, hardware, "adamw", replayer, force=True)
    )
    problem = Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["adamw"], 2**60)
    for path in sorted(folder.glob(f"{name}.*.json")):
        record = json.loads(path.read_text())
        schedule = schedule_from_json(record.pop("schedule"), graph.content_hash)
        with apply(model, graph, schedule):
            result = measure_step(model, example_inputs, loss, "adamw", repetitions=30)
        record |= {
            "predicted_step_time_s": simulate(problem, schedule).step_time_s,
            "measured_peak_bytes": result.peak_memory_bytes,
            "measured_step_time_s": result.step_time_s,
            "measured_step_times_s": result.step_times_s,
            "status": result.status,
        }
        path.write_text(json.dumps(record))


def summary(rows: list[dict[str, Any]]) -> str:
    """One line per model and plan, and the worst and median errors."""
    lines, peaks, times = [], [], []
    for row in rows:
        peak = row["predicted_peak_bytes"] / row["measured_peak_bytes"] - 1
        time = row["predicted_step_time_s"] / row["measured_step_time_s"] - 1
        peaks.append(abs(peak))
        times.append(abs(time))
        lines.append(
            [
                row["model"],
                row["plan"],
                f"{row['predicted_peak_bytes'] / 2**20:.3f}",
                f"{row['measured_peak_bytes'] / 2**20:.3f}",
                f"{peak:+.2%}",
                f"{row['predicted_step_time_s'] * 1e3:.2f}",
                f"{row['measured_step_time_s'] * 1e3:.2f}",
                f"{time:+.1%}",
            ]
        )
    head = ["model", "plan", "peak MiB predicted", "measured", "error"]
    head += ["step ms predicted", "measured", "error"]
    within = sum(error <= 0.03 for error in peaks), sum(error <= 0.15 for error in times)
    return (
        f"Peak: {within[0]} of {len(rows)} within 3 %, median {statistics.median(peaks):.2%}, "
        f"worst {max(peaks):.2%}. Step time: {within[1]} of {len(rows)} within 15 %, median "
        f"{statistics.median(times):.1%}, worst {max(times):.1%}.\n\n{table(head, lines)}"
    )


def main(words: list[str]) -> int:
    """Predict and measure in processes of their own, then write the record."""
    values = arguments(
        words, {"out": str(RESULTS), "models": MODELS, "mixes": "4", "role": "", "folder": ""}
    )
    if values["role"] == "predict":
        predict(values["models"], int(values["mixes"]), Path(values["folder"]))
        return 0
    if values["role"] == "measure":
        measure(values["models"], Path(values["folder"]))
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in values["models"].split(","):
            for role in ("predict", "measure"):
                words = [f"models={name}", f"mixes={values['mixes']}", f"folder={folder}"]
                command = [sys.executable, "-m", "benchmarks.prediction", f"role={role}", *words]
                subprocess.run(command, check=True, env=os.environ | ONE_THREAD)
            files = sorted(Path(folder).glob(f"{name}.*.json"))
            rows += [json.loads(path.read_text()) for path in files]
            print(f"{name}: {len(files)} plans", file=sys.stderr)
    record = {"context": context("python -m benchmarks.prediction", PACKAGES), "rows": rows}
    write(
        Path(values["out"]), "prediction", record, "Prediction against measurement", summary(rows)
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
