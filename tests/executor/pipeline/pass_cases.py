"""Pipelines of passes of zoo models to run on ranks, and what came of them."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from remora.api.passes import inference_spec, pass_example, trace_pass
from remora.api.plan_files import verification_from_values
from remora.api.rank_processes import Ended, run_ranks
from remora.graph.attention_cache import attention_layers
from remora.graph.batch import split_batch
from remora.graph.model_graph import ModelGraph
from remora.report.files import write_json
from remora.schedule.cuts import uniform_cuts
from remora.schedule.inference import InferenceSpec
from remora.schedule.menu import keep_all_schedule
from remora.schedule.parameters import StaticStorages
from remora.schedule.schedule import PipelineKind, PipelinePlan, Placement, Schedule, StatePlan
from remora.simulator.records import Verification
from remora.zoo import Example, build_target
from tests.zoo.model_files import load

_LIMIT_S = 400.0
_WORKER = "tests.executor.pipeline.pass_worker"


@dataclass(frozen=True)
class PassCase:
    """One run.

    Attributes:
        model: a model file that ships.
        ranks: of the pipeline.
        micro_batches: that divide the batch of 4.
        on_host: weights and caches of every unit wait on the host.
        new_tokens: after a prompt of 20.
        fault: ``none``; ``wrong``, the last rank returns other logits; ``kill``, it is killed.
    """

    model: str
    ranks: int = 2
    micro_batches: int = 2
    on_host: bool = False
    new_tokens: int = 0
    fault: str = "none"


@dataclass(frozen=True)
class BuiltPass:
    """A case ready to run: model and batch, graph of one micro-batch, schedule and tokens."""

    example: Example
    graph: ModelGraph
    schedule: Schedule
    spec: InferenceSpec


def build_pass(case: PassCase) -> BuiltPass:
    """Build the model and the schedule, the same on every rank."""
    values = load("model", case.model)
    torch.manual_seed(0)
    example = pass_example(build_target(values["target"], values["values"]))
    model, inputs = example.model, example.example_inputs
    whole = trace_pass(model, inputs)
    part = trace_pass(model, split_batch(inputs, case.micro_batches)[0])
    kind = PipelineKind.GPIPE if case.ranks > 1 else PipelineKind.NONE
    cuts = uniform_cuts(len(part.units), case.ranks)
    schedule = keep_all_schedule(whole, PipelinePlan(kind, cuts, 1, case.micro_batches))
    if case.on_host:
        schedule = dataclasses.replace(schedule, state=_all_on_host(example, part))
    spec = inference_spec(model, whole, inputs, 20 if case.new_tokens else None, case.new_tokens)
    return BuiltPass(example, part, schedule, spec)


def run_passes(cases: Sequence[PassCase]) -> tuple[Ended, list[Verification]]:
    """Run cases of equally many ranks one after the other, in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        write_json(request, [dataclasses.asdict(case) for case in cases])
        ended = run_ranks(_WORKER, [str(request), str(answer)], cases[0].ranks, _LIMIT_S)
        values = json.loads(answer.read_text()) if answer.exists() else []
    return ended, [verification_from_values(one) for one in values]


def _all_on_host(example: Example, graph: ModelGraph) -> StatePlan:
    statics = StaticStorages(graph, 1)
    streamed = tuple(u for u in range(len(graph.units)) if statics.weights_of((u,)))
    caches = tuple(sorted(attention_layers(example.model, graph)))
    return StatePlan(weights=Placement.HOST, streamed_units=streamed, host_caches=caches)
