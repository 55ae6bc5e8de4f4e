"""Steps per second of the joint environment, and what its masks forbid.

Run `python -m benchmarks.env_speed [envs=N] [steps=N] [plans=N] [out=FOLDER]` with nothing else
running; one thread. Actions are drawn among the allowed ones; masks, observations, rewards, ends
of episodes and the draw of the next problem are part of the clock, the draw of actions is not.

Masks judge by upper bounds. Random plans are given a budget a little above their own simulated
peak; the share that the masks would have forbidden anywhere on the way is told.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.recording import RESULTS, arguments, context, table, write
from examples.own_model import Classifier

REPETITIONS = 5
TARGET = 20_000
MARGINS = (0.0, 0.01, 0.02, 0.05)
MASK_MODELS = ("gpt2_tiny", "t5_tiny", "resnet_tiny", "unet_tiny", "vit_tiny", "resnet50", "unet")
HARDWARE = "a100_40g"
CLUSTER = "8xa100_pcie"
RANKS = 8
BATCH = 512
COUNTS = (1, 8, 16, 32)


def problem_of(graphs: Mapping[int, Any], name: str, ranks: int = 1) -> Any:
    """Tables of a problem with roofline costs; graphs by number of micro-batches."""
    from remora.api.hardware import find_hardware
    from remora.cost_models.roofline import roofline_costs
    from remora.envs.problem_tables import ProblemTables
    from remora.schedule.problem import OPTIMIZERS, Problem

    hardware = find_hardware(HARDWARE if ranks == 1 else CLUSTER)
    costs = {count: roofline_costs(graph, hardware) for count, graph in graphs.items()}
    budget = hardware.free_memory_bytes
    problem = Problem(graphs, costs, hardware, OPTIMIZERS["adamw"], budget, ranks)
    return ProblemTables(name, problem)


def speed(envs: int, steps: int, ranks: int) -> dict[str, Any]:
    """Environment steps per second on a chain of 64 units, vectorised and one by one."""
    from remora.envs.joint_env import JointEnv
    from remora.envs.observation import JointSize
    from remora.envs.sampler import JointSampler
    from remora.envs.vector_env import JointVectorEnv
    from remora.graph.trace import trace

    model = Classifier(width=64, depth=62)
    counts = COUNTS[:1] if ranks == 1 else COUNTS
    graphs = {count: trace(model, (torch.randn(BATCH // count, 64),)) for count in counts}
    begun = time.perf_counter()
    sampler = JointSampler([problem_of(graphs, "classifier", ranks)])
    many = JointVectorEnv(sampler, envs, JointSize(64, 256))
    tables_s = time.perf_counter() - begun
    many.reset(seed=0)
    many.step(np.zeros(envs, dtype=np.int64))
    rates = [_rate_of(many, steps) for _ in range(REPETITIONS)]
    return {
        "units": len(graphs[1].units),
        "ranks": ranks,
        "envs": envs,
        "steps": steps * envs,
        "tables_s": tables_s,
        "steps_per_s": statistics.median(rates),
        "slowest_per_s": min(rates),
        "single_steps_per_s": _single_rate(JointEnv(sampler, JointSize(64, 256)), steps),
        "target_per_s": TARGET,
    }


def _rate_of(env: Any, steps: int) -> float:
    generator = np.random.default_rng(0)
    clock = 0.0
    for _ in range(steps):
        actions = _drawn(env.batch.masks, generator)
        begun = time.perf_counter()
        env.step(actions)
        clock += time.perf_counter() - begun
    return float(steps * env.num_envs / clock)


def _single_rate(env: Any, steps: int) -> float:
    generator = np.random.default_rng(0)
    env.reset(seed=0)
    clock = 0.0
    for _ in range(steps):
        action = np.int64(_drawn(env.batch.masks, generator)[0])
        begun = time.perf_counter()
        ended = env.step(action)[2]
        if ended:
            env.reset()
        clock += time.perf_counter() - begun
    return steps / clock


def _drawn(masks: Any, generator: np.random.Generator) -> Any:
    """One allowed action for every environment.  # [num_envs]."""
    return np.argmax(masks * generator.random(masks.shape), axis=1)


def forbidden(name: str, plans: int) -> dict[str, Any]:
    """Share of random plans that masks forbid although they fit, by margin of the budget."""
    from remora.api.bench.traces import batch_size, traced
    from remora.envs.batch import EpisodeBatch
    from remora.envs.observation import JointSize
    from remora.envs.sampler import JointSampler
    from remora.simulator.compiled import simulator_of

    problem = problem_of({1: traced(name, {}, batch_size(name, {}))}, name)
    batch = EpisodeBatch(JointSampler([problem]), 1, JointSize(64, 256))
    span = problem.keep_all_bytes - problem.floor_bytes
    generator = np.random.default_rng(0)
    lost = dict.fromkeys(MARGINS, 0)
    for _ in range(plans):
        batch.begin(0, 0, 100 * problem.keep_all_bytes)
        actions = []
        while batch.masks[0].any():
            actions.append(int(_drawn(batch.masks, generator)[0]))
            batch.step(np.array(actions[-1:]))
        peak = simulator_of(problem.problem).figures(batch.schedule(0)).max_peak_bytes
        for margin in MARGINS:
            budget = max(peak + round(margin * span), problem.budget_bytes(0.0))
            lost[margin] += not _passes(batch, budget, actions)
    raised = (problem.least_bytes - problem.floor_bytes) / span
    shares = {str(margin): count / plans for margin, count in lost.items()}
    return {"model": name, "plans": plans, "forbidden": shares, "least_range": raised}


def _passes(batch: Any, budget: int, actions: list[int]) -> bool:
    batch.begin(0, 0, budget)
    for action in actions:
        if not batch.masks[0, action]:
            return False
        batch.step(np.array([action]))
    return True


def _speed_rows(speeds: Mapping[str, Any]) -> list[list[str]]:
    reached = "reached" if speeds["steps_per_s"] >= TARGET else "missed"
    what = "one device" if speeds["ranks"] == 1 else f"{speeds['ranks']} ranks"
    return [
        [
            f"{what}: {speeds['envs']} environments, {speeds['units']} units",
            f"{speeds['steps_per_s']:,.0f}",
            f"{speeds['slowest_per_s']:,.0f}",
            f"{TARGET:,}",
            reached,
            f"{speeds['tables_s']:.2f}",
        ],
        [f"{what}: one environment", f"{speeds['single_steps_per_s']:,.0f}", "", "", "", ""],
    ]


def page(speeds: Sequence[Mapping[str, Any]], masks: list[dict[str, Any]]) -> str:
    """Both tables."""
    rates = table(
        ["", "steps/s", "slowest", "target", "", "seconds for tables"],
        [row for one in speeds for row in _speed_rows(one)],
    )
    head = ["model", *(f"peak + {margin:.0%} of range" for margin in MARGINS), "least range"]
    rows = [
        [
            row["model"],
            *(f"{row['forbidden'][str(margin)]:.1%}" for margin in MARGINS),
            f"{row['least_range']:.3f}",
        ]
        for row in masks
    ]
    return (
        f"{rates}\n\n"
        f"Plans drawn at random ({masks[0]['plans']} per model) that fit their budget and that the "
        f"masks forbid, by budget; `least range` is the smallest budget of an episode, 0 what "
        f"recomputation alone reaches.\n\n{table(head, rows)}"
    )


def main() -> None:
    """Measure and write both files."""
    given = {"envs": "64", "steps": "400", "plans": "100", "out": str(RESULTS)}
    values = arguments(sys.argv[1:], given)
    torch.set_num_threads(1)
    envs, steps = int(values["envs"]), int(values["steps"])
    speeds = [speed(envs, steps, ranks) for ranks in (1, RANKS)]
    masks = [forbidden(name, int(values["plans"])) for name in MASK_MODELS]
    about = context("python -m benchmarks.env_speed", ("gymnasium", "numba", "numpy", "torch"))
    record = {"context": about, "speed": speeds, "masks": masks}
    title = "Speed and masks of the joint environment"
    write(Path(values["out"]), "env_speed", record, title, page(speeds, masks))


if __name__ == "__main__":
    main()
