"""Recorded steps beside simulated ones, and what recording must not change."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.memory.install import apply
from remora.executor.step import TrainingStep
from remora.executor.timeline.clocks import CpuClock
from remora.executor.timeline.event_log import RecordedLog
from remora.executor.timeline.record import record_timeline
from remora.executor.timeline.unit_marks import UnitMarks
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.graph.wrapping import wrapped_forwards
from remora.schedule.program import Instruction, InstructionKind, Stream
from remora.schedule.schedule import Action, Schedule
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from remora.zoo.example import Example
from remora.zoo.registry import build_target
from tests.executor.memory.plans import random_schedule, run_steps, schedule
from tests.executor.memory.toys import Chain, chain
from tests.executor.state.plans import streaming, with_state
from tests.executor.test_peak import peak_problem
from tests.zoo.model_files import load

KEEP_ALL = 0


def _model(name: str) -> tuple[Example, ModelGraph]:
    torch.manual_seed(0)
    config = load("model", name)
    example = build_target(config["target"], config["values"])
    example.model.train()
    return example, trace(example.model, example.example_inputs, example.loss)


def _plan(graph: ModelGraph, seed: int) -> Schedule:
    return schedule(graph) if seed == KEEP_ALL else random_schedule(graph, seed)


def _labels(timeline: Timeline) -> list[tuple[InstructionKind, int, int, int]]:
    def label(one: Instruction) -> tuple[InstructionKind, int, int, int]:
        return one.kind, one.unit, one.micro_batch, one.stage

    return [label(event.instruction) for event in timeline.events]


# Seeds with nested groups, offloaded checkpoints, offloaded and partly recomputed units.
@pytest.mark.parametrize(
    ("name", "seed"), [("gpt2_tiny", KEEP_ALL), ("resnet_tiny", KEEP_ALL), ("gpt2_tiny", 1)]
)
def test_a_recorded_step_is_the_simulated_program(name: str, seed: int) -> None:
    example, graph = _model(name)
    plan = _plan(graph, seed)
    recorded = record_timeline(example.model, example.example_inputs, example.loss, graph, plan)
    simulated = simulate(peak_problem(graph), plan)
    assert _labels(recorded) == _labels(simulated)
    assert recorded.peak_bytes == pytest.approx(simulated.peak_bytes, rel=1e-3)
    assert recorded.host_peak_bytes == simulated.host_peak_bytes


def test_the_compute_stream_has_no_gaps_and_the_memory_comes_back() -> None:
    model, inputs, graph = chain(4)
    timeline = record_timeline(model, inputs, None, graph, random_schedule(graph, 3))
    assert all(event.instruction.stream is Stream.COMPUTE for event in timeline.events)
    assert timeline.events[0].start_s == 0.0
    for one, following in itertools.pairwise(timeline.events):
        assert one.start_s <= one.end_s
        assert following.start_s == pytest.approx(one.end_s, abs=1e-9)
    assert timeline.events[-1].end_s == pytest.approx(timeline.step_time_s)
    (samples,) = timeline.memory
    assert max(sample.level_bytes for sample in samples) == timeline.max_peak_bytes
    # What exists between steps.
    state = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    batch = sum(tensor.numel() * tensor.element_size() for tensor in inputs)
    assert state + batch <= samples[-1].level_bytes <= 1.1 * (state + batch)
    for sample in samples:
        event = timeline.events[sample.instruction]
        assert event.instruction.kind in InstructionKind


def test_compressed_tensors_are_restored_before_their_backward() -> None:
    model, inputs, graph = chain(3)
    plan = random_schedule(graph, 14, lossy=True)
    actions = [unit.distinct for unit in plan.memory.options]
    compressing = [i for i, kinds in enumerate(actions) if Action.COMPRESS in kinds]
    timeline = record_timeline(model, inputs, None, graph, plan, allow_lossy=True)
    labels = [(kind, unit) for kind, unit, *_ in _labels(timeline)]
    assert compressing
    for unit in compressing:
        restored = labels.index((InstructionKind.RESTORE, unit))
        assert restored < labels.index((InstructionKind.BACKWARD, unit))
        assert restored > labels.index((InstructionKind.BACKWARD, unit + 1))


def test_steps_with_the_state_on_the_host_are_recorded() -> None:
    model, inputs, graph = chain(3)
    plan = with_state(schedule(graph, Action.RECOMPUTE), streaming(graph))
    weights = [p.detach().clone() for p in model.parameters()]
    recorded = record_timeline(model, inputs, None, graph, plan)
    assert all(map(torch.equal, weights, model.parameters()))
    kinds = [kind for kind, *_ in _labels(recorded)]
    units = len(graph.units)
    assert kinds[:units] == [InstructionKind.FORWARD] * units
    assert kinds.count(InstructionKind.BACKWARD) == units
    assert kinds[-1] is InstructionKind.OPTIMIZER


def test_the_model_is_left_as_it_was() -> None:
    model, inputs, graph = chain(3)
    model(*inputs).sum().backward()
    values = [p.detach().clone() for p in model.parameters()]
    gradients = [p.grad for p in model.parameters()]
    random_state = torch.get_rng_state()
    record_timeline(model, inputs, None, graph, schedule(graph, Action.RECOMPUTE))
    assert all(map(torch.equal, values, model.parameters()))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("seed", [KEEP_ALL, 1, 2, 3])
def test_recording_changes_neither_gradients_nor_memory(seed: int) -> None:
    model, inputs, graph = chain(5, width=64, batch=32)
    plan = _plan(graph, seed)
    plain = run_steps(model, inputs)
    with apply(model, graph, plan) as handle:
        silent_bytes = _peak_of_a_step(
            model, inputs, TrainingStep(model, inputs, None, "none", handle)
        )
    log = RecordedLog(CpuClock())
    marks = UnitMarks(graph, len(graph.units) - 2, log)
    with (
        apply(model, graph, plan, log=log) as handle,
        wrapped_forwards(model, marks.paths, marks.run),
    ):
        recorded = run_steps(model, inputs)
        step = TrainingStep(model, inputs, None, "none", handle, log)
        log.restart(CpuClock())
        assert _peak_of_a_step(model, inputs, step) == silent_bytes
    assert len(log.spans) >= 2 * len(graph.units)
    assert torch.equal(recorded.loss, plain.loss)
    assert torch.equal(recorded.random_state, plain.random_state)
    for name, gradient in plain.gradients.items():
        other = recorded.gradients[name]
        assert gradient is not None
        assert other is not None
        assert torch.equal(gradient, other), name


def _peak_of_a_step(model: Chain, inputs: tuple[Tensor, ...], step: TrainingStep) -> int:
    for tensor in (*model.parameters(), *inputs):
        tensor.grad = None
    return cpu_peak_bytes(step.run)
