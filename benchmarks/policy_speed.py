"""Seconds of a plan by the policy, and steps per second of its training.

Run `python -m benchmarks.policy_speed [policy=default] [out=FOLDER]` with nothing else running; one
thread. A plan begins with a problem of which nothing is known: tables of the environment, encoding
of the graph, decoding and the simulation of what was decoded are counted, tracing is not. Training
is MaskablePPO with updates, without the judgements of its checkpoints, on one device.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.env_speed import BATCH, COUNTS, problem_of
from benchmarks.recording import RESULTS, arguments, context, table, write
from examples.own_model import Classifier
from remora.garbage import settled

REPETITIONS = 5
PLACES = {"one device": 1, "8 ranks": 8}
ASKED_S = {"greedy": 0.3, "samples": 1.0}
ASKED_STEPS_PER_S = 300
STEPS = 16_384
SHARE = 0.3


def graphs_of(ranks: int) -> dict[int, Any]:
    """A chain of 64 units, by number of micro-batches."""
    from remora.graph.trace import trace

    model = Classifier(width=64, depth=62)
    counts = COUNTS[:1] if ranks == 1 else COUNTS
    return {count: trace(model, (torch.randn(BATCH // count, 64),)) for count in counts}


def planned(policy: str, place: str, decode: str) -> dict[str, Any]:
    """Seconds of plans without a search."""
    from remora.agents.learned.scheduler import Learned

    graphs = graphs_of(PLACES[place])
    known = problem_of(graphs, "classifier", PLACES[place])
    budget = known.budget_bytes(SHARE)
    scheduler = Learned(policy=policy, decode=decode, search=False)
    seconds = []
    for _ in range(REPETITIONS + 1):
        fresh = problem_of(graphs, "classifier", PLACES[place]).problem
        problem = replace(fresh, budget_bytes=budget)
        with settled():
            begun = time.perf_counter()
            scheduler.propose(problem, 60.0)
            seconds.append(time.perf_counter() - begun)
    return {
        "place": place,
        "decode": decode,
        "units": len(graphs[1].units),
        "seconds": statistics.median(seconds[1:]),
        "slowest_s": max(seconds[1:]),
        "asked_s": ASKED_S[decode],
    }


def trained() -> dict[str, Any]:
    """Steps per second of MaskablePPO, updates included."""
    from remora.agents.learned.ppo import train_ppo
    from remora.agents.learned.ppo_config import PpoConfig
    from remora.agents.learned.selection import Validation, ValidationProblem
    from remora.envs.sampler import JointSampler
    from remora.tracking.registry import create

    known = problem_of(graphs_of(1), "classifier")
    validation = Validation([ValidationProblem(known, known.budget_bytes(SHARE), known.keep_all_s)])
    seconds = []
    for steps in (2_048, 2_048 + STEPS):
        config = PpoConfig(total_steps=steps, checkpoint_every=10_000)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            train_ppo(JointSampler([known]), validation, config, Path(folder), create("none"))
            seconds.append(time.perf_counter() - begun)
    return {"steps": STEPS, "steps_per_s": STEPS / (seconds[1] - seconds[0])}


def main() -> None:
    """Measure and write the record."""
    values = arguments(sys.argv[1:], {"out": str(RESULTS), "policy": "default"})
    torch.set_num_threads(1)
    plans = [planned(values["policy"], place, decode) for place in PLACES for decode in ASKED_S]
    training = trained()
    rows = [
        [
            f"plan of {row['units']} units, {row['place']}, {row['decode']}",
            f"{row['seconds']:.2f} s (slowest {row['slowest_s']:.2f} s)",
            f"<= {row['asked_s']:g} s",
        ]
        for row in plans
    ]
    speed = f"{training['steps_per_s']:.0f} steps/s"
    rows.append(["PPO with updates, one device", speed, f">= {ASKED_STEPS_PER_S} steps/s"])
    command = f"python -m benchmarks.policy_speed policy={values['policy']}"
    about = context(command, ("numpy", "torch", "torch-geometric", "stable-baselines3"))
    record = {"context": about, "plans": plans, "training": training}
    body = table(("what", "measured", "asked"), rows)
    write(Path(values["out"]), "policy_speed", record, "Speed of the policy", body)


if __name__ == "__main__":
    main()
