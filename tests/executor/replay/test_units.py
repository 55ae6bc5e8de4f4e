"""Replaying units: every operator of real models runs again, and failures never end a run."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from remora.executor.replay import units as units_module
from remora.executor.replay.host_time import forward_overhead_s
from remora.executor.replay.optimizer import measure_optimizer
from remora.executor.replay.overhead import measure_overheads
from remora.executor.replay.plan import UnitPlan, compile_unit, execute, make_external, storage_ends
from remora.executor.replay.replayer import Replayer
from remora.executor.replay.units import measure_units
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace

CPU = torch.device("cpu")


class Block(nn.Module):
    """In-place operators, views, dropout, a skip connection, normalisation with buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu_(self.norm(self.first(x)))
        hidden += x
        return self.drop(hidden).transpose(2, 3).contiguous()


class Model(nn.Module):
    """Token embedding, three equal blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 16)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Linear(16, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embed(tokens).view(2, 3, 4, 16)  # [batch, channels, rows, width]
        hidden = self.blocks(hidden.expand(2, 3, 4, 16).reshape(2, 3, 8, 8))
        return self.head(hidden.reshape(2, 12, 16))


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return trace(Model(), (torch.zeros(2, 12, dtype=torch.long),))


def all_kinds(graph: ModelGraph) -> set[str]:
    return {unit.kind for unit in graph.units}


def test_every_operator_is_measured(graph: ModelGraph) -> None:
    times, notes = measure_units(graph, all_kinds(graph), CPU, repetitions=2)
    assert times.keys() == all_kinds(graph)
    assert notes == ()
    for unit in graph.units:
        measured = times[unit.kind]
        assert measured.notes == ()
        assert len(measured.forward_op_s) == unit.forward[1] - unit.forward[0]
        assert len(measured.backward_op_s) == unit.backward[1] - unit.backward[0]
        assert all(t is not None and t >= 0 for t in measured.forward_op_s)
        assert all(t is not None and t >= 0 for t in measured.backward_op_s)
        assert measured.repetitions >= 2


def test_a_gradient_that_nobody_asked_for_has_no_tensor() -> None:
    # The first layer's input needs no gradient.
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU())
    first = trace(model, (torch.randn(2, 3, 8, 8),))
    times, _ = measure_units(first, all_kinds(first), CPU, repetitions=1)
    norm = next(i for i, op in enumerate(first.ops) if "batch_norm_backward" in op.name)
    unit = next(unit for unit in first.units if norm in range(*unit.backward))
    assert times[unit.kind].notes == ()
    assert times[unit.kind].backward_op_s[norm - unit.backward[0]] is not None


def test_only_the_kinds_asked_for(graph: ModelGraph) -> None:
    kind = graph.units[1].kind
    times, _ = measure_units(graph, {kind, "unknown"}, CPU, repetitions=1)
    assert list(times) == [kind]


def test_random_state_is_left_alone(graph: ModelGraph) -> None:
    before = torch.get_rng_state()
    measure_units(graph, all_kinds(graph), CPU, repetitions=1)
    assert torch.equal(before, torch.get_rng_state())


def test_unit_that_does_not_fit_is_noted(
    graph: ModelGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units_module, "free_memory_bytes", lambda device_type: 10)
    times, notes = measure_units(graph, {graph.units[1].kind}, CPU)
    assert times == {}
    assert "not measured" in notes[0]
    assert graph.units[1].name in notes[0]


def test_failing_operators_are_noted_and_the_rest_is_measured(graph: ModelGraph) -> None:
    unit = graph.units[1]
    start = unit.forward[0]
    broken = {
        start: dataclasses.replace(graph.ops[start], name="aten.no_such_operator.default"),
        start + 1: dataclasses.replace(graph.ops[start + 1], args=(["opaque", "Thing"],)),
        unit.backward[0]: dataclasses.replace(graph.ops[unit.backward[0]], args=(1, 2, 3)),
    }
    ops = tuple(broken.get(index, op) for index, op in enumerate(graph.ops))
    times, _ = measure_units(dataclasses.replace(graph, ops=ops), {unit.kind}, CPU, repetitions=1)
    measured = times[unit.kind]
    assert measured.forward_op_s[:2] == (None, None)
    assert measured.backward_op_s[0] is None
    assert all(t is not None for t in measured.forward_op_s[2:])
    assert len(measured.notes) == 3
    assert "no_such_operator" in measured.notes[0]


def run_unit(graph: ModelGraph, plan: UnitPlan) -> list[Tensor | None]:
    tensors: list[Tensor | None] = [None] * plan.num_slots
    for external in (*plan.statics, *plan.externals):
        make_external(graph, external, tensors, CPU)
    with torch.no_grad(), torch.random.fork_rng([]):
        execute(plan.forward, tensors, None)
        execute(plan.backward, tensors, None)
    return tensors


def test_only_gradients_and_what_existed_before_survive(graph: ModelGraph) -> None:
    unit = graph.units[1]
    plan = compile_unit(graph, unit, storage_ends(graph), CPU)
    tensors = run_unit(graph, plan)
    left = sum(tensor is not None for tensor in tensors)
    static = sum(len(external.views) for external in plan.statics)
    gradients = sum(
        graph.storages[graph.tensors[tensor].storage].role == "gradient"
        for tensor in {t for _, op in graph.backward_ops(unit) for t in op.outputs}
    )
    assert gradients > 0
    assert left <= static + gradients + 2
    for call in (*plan.forward, *plan.backward):
        assert all(container[key] is None for container, key, _ in call.holes)


def test_optimizer_time_scales_with_what_fits(
    graph: ModelGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure_optimizer(graph, "none", CPU) == 0.0
    assert measure_optimizer(graph, "adamw", CPU, repetitions=1) > 0
    monkeypatch.setattr("remora.executor.replay.optimizer._LARGEST_BYTES", 64)
    assert measure_optimizer(graph, "sgd_momentum", CPU, repetitions=1) > 0


def test_overheads_are_finite() -> None:
    overheads = measure_overheads(CPU)
    assert math.isfinite(overheads.forward_op_s)
    assert math.isfinite(overheads.backward_op_s)


def test_overheads_of_a_model_leave_it_as_it_was(graph: ModelGraph) -> None:
    model = Model()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    random = torch.get_rng_state()
    inputs = (torch.zeros(2, 12, dtype=torch.long),)
    replayer = Replayer(CPU, repetitions=1, model=model, example_inputs=inputs)
    times, _ = replayer.units(graph, all_kinds(graph))
    overheads = replayer.overheads(graph, times)
    assert overheads.forward_op_s >= 0
    assert replayer.overheads_name(graph) != Replayer(CPU).overheads_name(graph)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_model_without_memory_keeps_the_general_overheads(graph: ModelGraph) -> None:
    times, _ = measure_units(graph, all_kinds(graph), CPU, repetitions=1)
    model = Model().to("meta")
    assert forward_overhead_s(model, (torch.zeros(2, 12),), None, graph, times) is None
