"""What each part of the policy and of its training is worth, on the validation problems.

Run `python -m benchmarks.policy_ablation runs=FOLDER labels=FOLDER validation=FOLDER [seed=1]
[steps=120000] [variants=a,b] [seconds=1] [out=FOLDER]`; about an hour, less with `variants=` in two
processes at once. Labels are those that `remora train-agent experiment=policy` made. Every training
takes the same number of rounds of lookahead and of decisions; those that are done in `runs` are not
repeated. The table is written once all of them are there.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

FULL, IMITATED = "full", "lookahead_0"
PACKAGES = ("torch", "torch-geometric", "stable-baselines3", "sb3-contrib", "numba")


def trainings(runs: Path, seed: int, steps: int) -> dict[str, dict[str, Any]]:
    """Values of each training over those of experiment `policy`, the full one first."""
    both: dict[str, Any] = {
        "seed": seed,
        "stages": ["lookahead", "ppo"],
        "lookahead": {"count": 1},
        "ppo": {"total_steps": steps, "max_seconds": None},
    }
    alone = {**both, "stages": ["ppo"]}
    imitated = str(runs / FULL / IMITATED / "policy")
    return {
        FULL: both,
        "without imitation": alone,
        "without shaping": {
            **alone,
            "start": imitated,
            "ppo": {**both["ppo"], "shaping": False},
        },
        "without GNN": {**both, "network": {"encoder": "mlp"}},
    }


def train(runs: Path, values: Mapping[str, str], chosen: Sequence[str]) -> None:
    """Run the trainings that are chosen; all learn from the same material."""
    from omegaconf import OmegaConf

    from remora.api.agent_training.config import agent_training_config
    from remora.api.agent_training.stages import run_stages
    from remora.api.agent_training.train import material_of
    from remora.api.configs import load_config
    from remora.tracking.registry import create

    material = None
    found = {name: labels(values[name]) for name in ("labels", "validation")}
    shared = OmegaConf.merge(load_config("experiment", "policy"), found)
    for name, own in trainings(runs, int(values["seed"]), int(values["steps"])).items():
        if name not in chosen or (runs / name / "ppo" / "policy").is_dir():
            continue
        merged: Any = OmegaConf.to_container(OmegaConf.merge(shared, own))
        config = agent_training_config(merged)
        material = material or material_of(config, runs / "labels")
        begun = time.process_time()
        run_stages(config, material, runs / name, create("none"), resume=True)
        print(f"{name}: {time.process_time() - begun:.0f} s of processor time", flush=True)


def labels(folder: str) -> dict[str, Any]:
    """Use all labels of a folder."""
    return {"folder": folder, "count": len(list((Path(folder) / "labels").glob("*.json.gz")))}


def methods(runs: Path) -> Iterator[tuple[str, Any]]:
    """What is compared on every problem: name and scheduler."""
    from remora.agents.learned.scheduler import Learned
    from remora.agents.registry import create

    policies = {FULL: runs / FULL / "ppo", "without PPO": runs / FULL / IMITATED}
    policies |= {name: runs / name / "ppo" for name in list(trainings(runs, 0, 1))[1:]}
    for name, folder in policies.items():
        learned = Learned(policy=str(folder / "policy"))
        yield f"{name}, greedy decode", replace(learned, decode="greedy", search=False)
        yield f"{name}, 64 samples", replace(learned, search=False)
        yield f"{name}, 64 samples + local search", learned
    yield "64 random plans + local search", Learned(decode="random")
    yield "rank-aware greedy", create("rank_greedy")
    yield "local search from the rank-aware greedy", create("local_search")


def compare(runs: Path, folder: str, seconds: float) -> list[dict[str, Any]]:
    """Every method on every validation problem; decoding alone has ten times as long."""
    from remora.agents.candidates import run_member
    from remora.agents.learned.labels.label import read_labels

    rows = []
    for label in read_labels(Path(folder)):
        for name, scheduler in methods(runs):
            alone = getattr(scheduler, "search", True) is False
            found = run_member(scheduler, label.problem, 10 * seconds if alone else seconds)
            gap = found.step_time_s / label.best_s - 1 if found.step_time_s else None
            rows.append({"problem": label.name, "method": name, "gap": gap})
        print(label.name, flush=True)
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row per method: median, mean and 95th percentile of the gaps, and plans that do not fit."""
    shown = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row["gap"] for row in rows if row["method"] == method]
        gaps = sorted(gap for gap in own if gap is not None)
        figures = (
            statistics.median(gaps),
            statistics.fmean(gaps),
            gaps[round(0.95 * (len(gaps) - 1))],
        )
        cells = [f"{value:+.2%}" for value in figures]
        shown.append([method, str(len(own)), *cells, str(len(own) - len(gaps))])
    return shown


def main() -> None:
    """Train what is chosen; where all is there, compare and write the record."""
    from remora.envs.warm_up import compile_kernels

    given = {
        "out": str(RESULTS),
        "runs": "outputs/policy_ablation",
        "labels": "outputs/policy/labels",
        "validation": "outputs/policy/validation",
        "seed": "1",
        "steps": "120000",
        "variants": "all",
        "seconds": "1",
    }
    values = arguments(sys.argv[1:], given)
    runs = Path(values["runs"]).absolute()
    names = list(trainings(runs, 0, 1))
    train(runs, values, names if values["variants"] == "all" else values["variants"].split(","))
    if not all((runs / name / "ppo" / "policy").is_dir() for name in names):
        return
    compile_kernels()
    rows = compare(runs, values["validation"], float(values["seconds"]))
    head = ["method", "problems", "median", "mean", "95 %", "none"]
    text = (
        "How much slower than the best known plan, on problems of the validation models that no "
        f"training saw. Search has {values['seconds']} s.\n\n" + table(head, summary(rows))
    )
    command = f"python -m benchmarks.policy_ablation seed={values['seed']} steps={values['steps']}"
    record = {"context": context(command, PACKAGES), "rows": rows}
    write(Path(values["out"]), "policy_ablation", record, "What the policy's parts are worth", text)


if __name__ == "__main__":
    main()
