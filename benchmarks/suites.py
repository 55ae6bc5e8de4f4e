"""Writes the suites of problems under `remora/conf/suite`, deterministically.

Run `python -m benchmarks.suites [suite=NAME] [out=FOLDER]`. Models, machines and points of the
range go round in a seeded order; a draw counts as long as its budget fits the device and its
problem is not trivial: the fastest pipeline of all that keep everything must be over the budget.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import remora
from benchmarks.recording import arguments
from remora.api.bench.build import build_problem
from remora.api.bench.suite import SuiteProblem
from remora.api.bench.traces import batch_size
from remora.api.budget import Budget, BudgetKind
from remora.api.hardware import find_hardware
from remora.api.problem import with_budget
from remora.errors import InvalidInputError
from remora.schedule.cuts import balanced_cuts
from remora.schedule.menu import keep_all_schedule
from remora.schedule.orders import allowed_chunks
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule
from remora.schedule.validate import validate
from remora.simulator.compiled import simulator_of

FOLDER = Path(remora.__file__).parent / "conf" / "suite"
MOST_DRAWS = 60
MOST_CHUNKS = 3
LEAST_RANGE = 0.05
"""Where keeping everything takes less than this more than the least memory, all is weights."""


@dataclass(frozen=True)
class Model:
    """A model as a suite plans it.

    Attributes:
        alias: begins the names of its problems.
        name: in `conf/model`.
        values: instead of those of its file.
        ranks: numbers of ranks for which it has units enough.
    """

    alias: str
    name: str
    values: dict[str, Any]
    ranks: tuple[int, ...] = (1,)
    tokens: tuple[int, int] | None = None
    """Of prompt and after it, in inference."""


@dataclass(frozen=True)
class Part:
    """Problems that a suite draws of each of its models."""

    models: tuple[Model, ...]
    hardware: tuple[str, ...]
    points: tuple[float, ...]
    per_model: int


@dataclass(frozen=True)
class Plan:
    """A suite to be written."""

    about: str
    parts: tuple[Part, ...]


def _one(name: str, batch: int, alias: str = "", **values: Any) -> Model:
    return Model(alias or name, name, {"batch": batch, **values})


def _many(name: str, batch: int, ranks: tuple[int, ...], alias: str = "", **values: Any) -> Model:
    return Model(alias or name, name, {"batch": batch, **values}, ranks)


PCIE = ("rtx3090", "rtx4090", "laptop_8g", "a100_40g", "v100_16g", "h100_sxm")
CLUSTERS = ("8xrtx4090", "8xa100_pcie", "8xl4", "4xa100")

HELD_OUT_ONE = (
    _one("t5_small", 32),
    _one("swin_tiny", 64),
    _one("convnext_tiny", 64),
    _one("unet", 16),
    _one("fno2d", 32),
    _one("mamba2_130m", 8),
    _one("climate_unet", 16),
)
# Deeper where the usual depth has too few units for two stages on each of 16 ranks.
HELD_OUT_MANY = (
    _many("t5_small", 64, (4, 8, 16), "t5_small_12", layers=12),
    _many("swin_tiny", 64, (4, 8, 16), "swin_small", depths=[2, 2, 18, 2]),
    _many("convnext_tiny", 64, (4, 8, 16), "convnext_small", depths=[3, 3, 27, 3]),
    _many("unet", 32, (4, 8)),
    _many("fno2d", 64, (4, 8, 16), "fno2d_32", layers=32),
    _many("mamba2_130m", 32, (4, 8)),
    _many("climate_unet", 32, (4, 8)),
)
TRAIN_ONE = (
    _one("gpt2", 8),
    _one("gpt2_medium", 4),
    _one("llama_1b", 4),
    _one("qwen3_0_6b", 4),
    _one("vit_base", 64),
)
TRAIN_MANY = (
    _many("gpt2", 32, (2, 4, 8)),
    _many("gpt2_medium", 32, (4, 8, 16)),
    _many("llama_1b", 16, (2, 4, 8)),
    _many("qwen3_0_6b", 32, (4, 8, 16)),
    _many("vit_base", 64, (2, 4, 8)),
)
VALIDATION_ONE = (_one("bert_base", 32), _one("resnet50", 128), _one("resnet101", 64))
VALIDATION_MANY = (
    _many("bert_base", 64, (4, 8)),
    _many("resnet50", 128, (4, 8)),
    _many("resnet101", 128, (4, 8)),
)

TIGHT = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
WIDE = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)

# Prompts of 512 tokens, of which a pass takes all, or the last one with the others in the cache.
SERVED_ONE = (
    replace(_one("llama_7b", 4, sequence=512), tokens=(512, 512)),
    replace(_one("llama_7b", 64, "llama_7b_next", sequence=1), tokens=(512, 512)),
    replace(_one("llama_1b", 8, sequence=512), tokens=(512, 512)),
    replace(_one("qwen3_0_6b", 32, "qwen3_0_6b_next", sequence=1), tokens=(512, 512)),
    replace(_one("gpt2_medium", 16, sequence=512), tokens=(512, 512)),
    replace(_one("vit_base", 256), tokens=(0, 0)),
)
SERVED_MANY = (
    replace(_many("llama_7b", 16, (2, 4), sequence=512), tokens=(512, 512)),
    replace(_many("llama_1b", 32, (4,), sequence=512), tokens=(512, 512)),
    replace(_many("vit_base", 256, (4,)), tokens=(0, 0)),
)

CLUSTER = "cluster"
CLUSTER_ABOUT = "Several nodes that share a batch: tensor degree, pipeline and replicas are open."
# Model, nodes, and shares of a device's memory.
CLUSTER_PARTS = (
    (_one("llama_7b", 64), (("8xh100", 16), ("8xh100", 64), ("8xa100", 32)), (0.9, 0.25)),
    (_one("llama_1b", 128), (("8xh100", 16), ("8xa100", 32)), (0.5, 0.1)),
    (_one("vit_base", 512), (("8xa100", 16),), (0.1, 0.03)),
)

SUITES = {
    "train": Plan(
        "What agents learn from: language and vision transformers.",
        (
            Part(TRAIN_ONE, PCIE, (0.05, 0.1, 0.2, 0.4), 4),
            Part(TRAIN_MANY, CLUSTERS, TIGHT, 8),
        ),
    ),
    "validation": Plan(
        "What settings are chosen on: BERT and ResNets.",
        (
            Part(VALIDATION_ONE, PCIE, (0.05, 0.1, 0.2, 0.4), 4),
            Part(VALIDATION_MANY, CLUSTERS, TIGHT, 4),
        ),
    ),
    "held_out": Plan(
        "Architectures that no agent was trained or chosen on; read by benchmarks only.",
        (
            Part(HELD_OUT_ONE, PCIE, (0.05, 0.1, 0.2, 0.4), 2),
            Part(tuple(replace(m, ranks=(2, 4, 8)) for m in HELD_OUT_MANY), CLUSTERS, TIGHT, 4),
        ),
    ),
    "pipeline": Plan(
        "Pipelines of 4 to 16 ranks over PCIe, where cuts, kind and options matter together.",
        (Part(HELD_OUT_MANY, CLUSTERS, TIGHT, 8),),
    ),
    "single": Plan(
        "One device, mostly on a PCIe host, from tight to wide budgets.",
        (Part(HELD_OUT_ONE, (*PCIE, "gh200"), WIDE, 6),),
    ),
    "inference": Plan(
        "Passes of inference over prompts and single tokens, on one device and in pipelines.",
        (
            Part(SERVED_ONE, PCIE, (0.05, 0.2, 0.4, 0.7), 2),
            Part(SERVED_MANY, CLUSTERS, (0.05, 0.2, 0.4, 0.7), 2),
        ),
    ),
    "smoke": Plan(
        "Small models, to see in seconds that everything runs.",
        (
            Part((_one("gpt2_tiny", 8), _one("unet_tiny", 8)), ("rtx3090",), (0.2,), 1),
            Part(
                (_many("t5_tiny", 16, (4,)), _many("resnet_tiny", 8, (2,))), ("4xa100",), (0.2,), 1
            ),
        ),
    ),
}


def cluster_problems() -> Iterator[SuiteProblem]:
    """Every model on its nodes and within its shares; the range of such a problem is the share."""
    for model, machines, shares in CLUSTER_PARTS:
        for (hardware, ranks), share in itertools.product(machines, shares):
            budget = int(share * find_hardware(hardware).free_memory_bytes)
            name = f"{model.alias}-{hardware}-n{ranks}-s{share:g}"
            item = SuiteProblem(
                name, model.name, model.values, hardware, ranks, None, budget, share
            )
            yield replace(item, global_batch=True)


def problems_of(suite: str) -> Iterator[SuiteProblem]:
    """Draw the problems of a suite."""
    if suite == CLUSTER:
        yield from cluster_problems()
        return
    random = Random(f"suite {suite}")
    taken: set[str] = set()
    for part in SUITES[suite].parts:
        # Machines and points go round over all models.
        hardware, points = _rounds(part.hardware, random), _rounds(part.points, random)
        for model in part.models:
            shapes = _rounds(_shapes(model), random)
            found: list[SuiteProblem] = []
            for _ in range(MOST_DRAWS):
                if len(found) == part.per_model:
                    break
                drawn = _drawn(model, *next(shapes), next(hardware), next(points), random)
                if drawn is not None and drawn.name not in taken:
                    taken.add(drawn.name)
                    found.append(drawn)
            yield from found


def _shapes(model: Model) -> tuple[tuple[int, bool], ...]:
    """Numbers of ranks, with micro-batches fixed and free where there are several."""
    return tuple(
        (ranks, fixed)
        for ranks in model.ranks
        for fixed in ((False, True) if ranks > 1 else (False,))
    )


def _rounds(values: tuple[Any, ...], random: Random) -> Iterator[Any]:
    """All values in a new order again and again."""
    while True:
        yield from random.sample(values, len(values))


def _drawn(
    model: Model, ranks: int, fixed: bool, hardware: str, point: float, random: Random
) -> SuiteProblem | None:
    """One problem; None where it makes no sense."""
    count = None
    if fixed:
        batch = batch_size(model.name, model.values)
        count = random.choice([m for m in range(ranks, 4 * ranks + 1) if batch % m == 0])
    open_name = "" if ranks == 1 else f"-m{count or 'free'}"
    name = f"{model.alias}-{hardware}-p{ranks}{open_name}-r{point:g}"
    item = SuiteProblem(name, model.name, model.values, hardware, ranks, count, 1, point)
    if model.tokens is not None:
        prompt, generated = model.tokens
        item = replace(item, mode="inference", prompt_tokens=prompt, generated_tokens=generated)
    problem = build_problem(item)
    budgets = [_budget_bytes(problem, at) for at in (0.0, point, 1.0)]
    if budgets[2] < budgets[0] * (1 + LEAST_RANGE):
        return None
    problem = replace(problem, budget_bytes=budgets[1])
    if budgets[1] > problem.hardware.free_memory_bytes or is_trivial(problem):
        return None
    return replace(item, budget_bytes=budgets[1])


def _budget_bytes(problem: Problem, point: float) -> int:
    return with_budget(problem, Budget(BudgetKind.RANGE, point)).budget_bytes


def is_trivial(problem: Problem) -> bool:
    """Whether the fastest of the plans that keep everything is within the budget."""
    runs = simulator_of(problem).batch(list(keep_all_plans(problem)))
    fastest = min(runs, key=lambda run: run.step_time_s)
    return fastest.max_peak_bytes <= problem.budget_bytes


def keep_all_plans(problem: Problem) -> Iterator[Schedule]:
    """Every kind and number of micro-batches, with balanced cuts over all ranks."""
    counts = sorted(problem.graphs) if problem.micro_batches is None else [problem.micro_batches]
    ranks, units = problem.world_size, len(problem.graph.units)
    if ranks == 1:
        for count in counts:
            yield keep_all_schedule(problem.graph, PipelinePlan(micro_batches=count))
        return
    for kind, count in itertools.product(PipelineKind, counts):
        for chunks in allowed_chunks(kind)[:MOST_CHUNKS]:
            if chunks * ranks > units:
                continue
            seconds = [unit.forward_s + unit.backward_s for unit in problem.chains[count].units]
            plan = PipelinePlan(kind, balanced_cuts(seconds, chunks * ranks), chunks, count)
            schedule = keep_all_schedule(problem.graph, plan)
            try:
                validate(problem, schedule)
            except InvalidInputError:
                continue
            yield schedule


def text_of(suite: str, problems: list[SuiteProblem]) -> str:
    """The YAML of a suite, one problem a line."""
    lines = [
        "# Made by python -m benchmarks.suites; range says where a budget came from.",
        f"name: {suite}",
        f"about: {CLUSTER_ABOUT if suite == CLUSTER else SUITES[suite].about!r}",
        "problems:",
    ]
    for item in problems:
        fixed = "null" if item.micro_batches is None else item.micro_batches
        values = ", ".join(f"{key}: {value}" for key, value in item.values.items())
        lines += [
            f"- name: {item.name}",
            f"  model: {item.model}",
            f"  values: {{{values}}}",
            f"  hardware: {item.hardware}",
            f"  world_size: {item.world_size}",
            f"  micro_batches: {fixed}",
            f"  budget_bytes: {item.budget_bytes}",
            f"  range: {item.range:g}",
        ]
        if item.mode != "train":
            lines += [
                f"  mode: {item.mode}",
                f"  prompt_tokens: {item.prompt_tokens}",
                f"  generated_tokens: {item.generated_tokens}",
            ]
        if item.global_batch:
            lines.append("  global_batch: true")
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> int:
    """Write one suite or all of them."""
    values = arguments(words, {"suite": "all", "out": str(FOLDER)})
    names = [*SUITES, CLUSTER] if values["suite"] == "all" else [values["suite"]]
    for name in names:
        begin = time.perf_counter()
        problems = list(problems_of(name))
        path = Path(values["out"]) / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(name, problems))
        print(f"{path}: {len(problems)} problems in {math.ceil(time.perf_counter() - begin)} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
