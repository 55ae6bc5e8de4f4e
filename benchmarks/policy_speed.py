"""Seconds of a plan by the policy, and steps per second of its training.

Run `python -m benchmarks.policy_speed [policy=default] [out=FOLDER]` with nothing else running; one
thread. A plan begins with a problem of which nothing is known: tables of the environment, encoding
of the graph, decoding and the simulation of what was decoded are counted, tracing is not. Training
is MaskablePPO with updates, without the judgements of its checkpoints, on one device. Passes of
inference are two problems of suite `inference`, planned by the policy that ships for them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.env_speed import BATCH, COUNTS, problem_of
from benchmarks.recording import RESULTS, arguments, context, table, write
from examples.own_model import Classifier
from remora.agents.scheduler import Scheduler
from remora.api.bench.build import build_problem
from remora.api.bench.suite import SuiteProblem, load_suite
from remora.garbage import settled
from remora.schedule.problem import Problem

REPETITIONS = 5
PLACES = {"one device": 1, "8 ranks": 8}
ASKED_S = {"greedy": 0.3, "samples": 1.0}
ASKED_STEPS_PER_S = 300
PASSES = {"one device": "llama_7b-rtx4090-p1-r0.7", "4 ranks": "llama_7b-8xa100_pcie-p4-m4-r0.7"}
EPISODES = 16
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

    def fresh() -> Problem:
        problem: Problem = problem_of(graphs, "classifier", PLACES[place]).problem
        return replace(problem, budget_bytes=budget)

    scheduler = Learned(policy=policy, decode=decode, search=False)
    return timed(fresh, scheduler, {"place": place, "decode": decode, "asked_s": ASKED_S[decode]})


def planned_pass(place: str, decode: str) -> dict[str, Any]:
    """The same of a pass of inference."""
    from remora.agents.learned.scheduler import Learned

    item = pass_problem(place)
    scheduler = Learned(decode=decode, search=False)
    return timed(lambda: build_problem(item), scheduler, {"place": place, "decode": decode})


def timed(
    fresh: Callable[[], Problem], scheduler: Scheduler, about: dict[str, Any]
) -> dict[str, Any]:
    """Plan a problem of which nothing is known, again and again; the first time does not count."""
    seconds = []
    for _ in range(REPETITIONS + 1):
        problem = fresh()
        with settled():
            begun = time.perf_counter()
            scheduler.propose(problem, 60.0)
            seconds.append(time.perf_counter() - begun)
    return {
        **about,
        "units": len(problem.graph.units),
        "seconds": statistics.median(seconds[1:]),
        "slowest_s": max(seconds[1:]),
    }


def pass_problem(place: str) -> SuiteProblem:
    """A problem of suite ``inference``."""
    (item,) = (one for one in load_suite("inference").problems if one.name == PASSES[place])
    return item


def pass_steps(place: str) -> dict[str, Any]:
    """Steps per second of its environment with random valid actions, masks included."""
    import numpy as np

    from remora.agents.learned.playing import exact_size
    from remora.envs.batch import EpisodeBatch
    from remora.envs.passes.tables import PassTables
    from remora.envs.sampler import JointSampler

    tables = PassTables("passes", build_problem(pass_problem(place)))
    batch = EpisodeBatch(JointSampler([tables]), EPISODES, exact_size([tables]))
    generator, steps = np.random.default_rng(0), 0
    for _ in range(2):
        for number in range(EPISODES):
            batch.begin(number, 0, tables.problem.budget_bytes)
        begun, steps = time.perf_counter(), 0
        while batch.masks.any():
            steps += int(batch.masks.any(axis=1).sum())
            batch.step((generator.random(batch.masks.shape) * batch.masks).argmax(axis=1))
    return {"place": place, "steps_per_s": steps / (time.perf_counter() - begun)}


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
    passes = [planned_pass(place, decode) for place in PASSES for decode in ASKED_S]
    played = [pass_steps(place) for place in PASSES]
    training = trained()
    rows = [
        [
            f"plan of {row['units']} units, {row['place']}, {row['decode']}",
            f"{row['seconds']:.2f} s (slowest {row['slowest_s']:.2f} s)",
            f"<= {row['asked_s']:g} s",
        ]
        for row in plans
    ]
    rows += [
        [
            f"pass of {row['units']} units, {row['place']}, {row['decode']}",
            f"{row['seconds']:.2f} s (slowest {row['slowest_s']:.2f} s)",
            "-",
        ]
        for row in passes
    ]
    rows += [
        [f"environment of passes, {row['place']}", f"{row['steps_per_s']:.0f} steps/s", "-"]
        for row in played
    ]
    speed = f"{training['steps_per_s']:.0f} steps/s"
    rows.append(["PPO with updates, one device", speed, f">= {ASKED_STEPS_PER_S} steps/s"])
    command = f"python -m benchmarks.policy_speed policy={values['policy']}"
    about = context(command, ("numpy", "torch", "torch-geometric", "stable-baselines3"))
    record = {
        "context": about,
        "plans": plans,
        "passes": passes,
        "pass_environment": played,
        "training": training,
    }
    body = table(("what", "measured", "asked"), rows)
    write(Path(values["out"]), "policy_speed", record, "Speed of the policy", body)


if __name__ == "__main__":
    main()
