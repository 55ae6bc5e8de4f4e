"""Pipelines of zoo models to run on ranks, and what came of them."""

from __future__ import annotations

import dataclasses
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from remora.api.plan_files import verification_from_values
from remora.api.rank_processes import run_ranks
from remora.graph.batch import split_batch, with_batch
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.precision import Precision
from remora.graph.trace import trace
from remora.report.files import write_json
from remora.schedule.cuts import uniform_cuts
from remora.schedule.problem import Problem
from remora.schedule.schedule import (
    Action,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    Placement,
    PrecisionPlan,
    Schedule,
    StatePlan,
    TensorPlan,
    UnitOption,
)
from remora.simulator.records import Verification
from remora.zoo.example import Example
from remora.zoo.registry import build_target
from tests.executor.memory.plans import mixed_option, nested_groups, option
from tests.executor.test_peak import peak_problem
from tests.low_bit import mixed
from tests.zoo.model_files import load

_LIMIT_S = 400.0
_WORKER = "tests.executor.pipeline.worker"


@dataclass(frozen=True)
class PipelineCase:
    """One run.

    Attributes:
        model: a model file that ships.
        kind: of the pipeline.
        ranks: of one pipeline.
        replicas: pipelines side by side.
        memory_seed: of a random memory plan; None keeps everything.
        zero_stage: of the state.
        optimizer: where its state lives.
        degree: ranks that share every layer.
        precision: of every unit of the model.
    """

    model: str
    kind: PipelineKind
    ranks: int = 2
    replicas: int = 1
    memory_seed: int | None = None
    zero_stage: int = 0
    optimizer: Placement = Placement.DEVICE
    degree: int = 1
    precision: Precision = Precision.MODEL

    @property
    def devices(self) -> int:
        """Processes that it takes."""
        return self.ranks * self.replicas * self.degree

    @property
    def chunks(self) -> int:
        """Stages per rank."""
        two = (PipelineKind.INTERLEAVED, PipelineKind.ZERO_BUBBLE, PipelineKind.DUALPIPE_V)
        return 2 if self.kind in two else 1

    @property
    def micro_batches(self) -> int:
        """As few as every kind allows."""
        return 1 if self.ranks == 1 and self.kind is PipelineKind.NONE else 2 * self.ranks


@dataclass(frozen=True)
class BuiltCase:
    """A case ready to run.

    Attributes:
        example: model, batch and loss.
        inputs: the batch of one replica.
        graphs: by number of micro-batches.
        schedule: for them.
    """

    example: Example
    inputs: ExampleInputs
    graphs: dict[int, ModelGraph]
    schedule: Schedule

    @property
    def graph(self) -> ModelGraph:
        """Of one micro-batch."""
        return self.graphs[self.schedule.pipeline.micro_batches]


def build(case: PipelineCase, training: bool = True) -> BuiltCase:
    """Build the model and the schedule, the same on every rank."""
    torch.manual_seed(3)
    config = load("model", case.model)
    example = build_target(config["target"], config["values"])
    example.model.train(training)
    count = case.micro_batches
    inputs = with_batch(example.example_inputs, 2 * count)
    whole, part = (
        _graph(example, batch, case) for batch in (inputs, split_batch(inputs, count)[0])
    )
    cuts = uniform_cuts(len(part.units), case.ranks * case.chunks)
    pipeline = PipelinePlan(case.kind, cuts, case.chunks, count)
    memory = _memory(part, pipeline, case.memory_seed)
    state = StatePlan(optimizer=case.optimizer, zero_stage=case.zero_stage)
    tensor, precision = TensorPlan(case.degree), PrecisionPlan(whole.precisions)
    schedule = Schedule(whole.content_hash, memory, pipeline, state, tensor, precision)
    return BuiltCase(example, inputs, {1: whole, count: part}, schedule)


def _graph(example: Example, inputs: ExampleInputs, case: PipelineCase) -> ModelGraph:
    graph = trace(example.model, inputs, example.loss, tensor_degree=case.degree)
    if case.precision is Precision.MODEL:
        return graph
    precisions = mixed(graph, (case.precision,))
    return trace(example.model, inputs, example.loss, precisions=precisions)


def problem_of(built: BuiltCase, ranks: int) -> Problem:
    """The problem that the schedule answers, with costs that matter for peaks only."""
    parts = {count: peak_problem(graph) for count, graph in built.graphs.items()}
    hardware = dataclasses.replace(parts[1].hardware, devices_per_node=8)
    return dataclasses.replace(
        parts[1],
        graphs=built.graphs,
        costs={count: part.costs[1] for count, part in parts.items()},
        hardware=hardware,
        world_size=ranks,
    )


def run_cases(cases: list[PipelineCase]) -> list[Verification]:
    """Verify cases of equal numbers of processes one after the other, on ranks of their own."""
    (world_size,) = {case.devices for case in cases}
    with tempfile.TemporaryDirectory() as name:
        request, answer = Path(name) / "request.json", Path(name) / "answer.json"
        write_json(request, [dataclasses.asdict(case) for case in cases])
        ended = run_ranks(_WORKER, [str(request), str(answer)], world_size, _LIMIT_S)
        assert ended.status == "ok", ended.detail
        values = json.loads(answer.read_text(encoding="utf-8"))
    return [verification_from_values(value) for value in values]


def case_from_values(values: dict[str, Any]) -> PipelineCase:
    """Read a case from plain values."""
    kind, optimizer = PipelineKind(values["kind"]), Placement(values["optimizer"])
    precision = Precision(values["precision"])
    return PipelineCase(**{**values, "kind": kind, "optimizer": optimizer, "precision": precision})


def _memory(graph: ModelGraph, pipeline: PipelinePlan, seed: int | None) -> MemoryPlan:
    if seed is None:
        return MemoryPlan(tuple(option(graph, u.index, Action.KEEP) for u in graph.units))
    draw = random.Random(seed)
    groups = []
    for start, end in pipeline.spans(len(graph.units)):
        free = [u.index for u in graph.units[start:end] if not u.fixed_reason]
        if free:
            groups += nested_groups(draw, free[0], free[-1] + 1)
    inside = {unit for group in groups for unit in range(group.start, group.end)}
    options = tuple(_option(graph, u.index, draw, u.index in inside) for u in graph.units)
    return MemoryPlan(options, tuple(groups), draw.choice([1, 2, 3]), draw.choice([1, 2]))


def _option(graph: ModelGraph, unit: int, draw: random.Random, grouped: bool) -> UnitOption:
    allowed: list[Action | None] = [Action.KEEP, Action.RECOMPUTE]
    if not grouped:
        allowed += [Action.OFFLOAD, None, None]
    action = draw.choice(allowed)
    if action is None:
        return mixed_option(graph, unit, draw)
    return option(graph, unit, action)
