"""Verification and measurement of schedules that say where the state lives."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.executor.memory.install import apply
from remora.executor.state.weight_stream import StreamedStorage
from remora.executor.step import TrainingStep
from remora.executor.verify import verify
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.schedule import Action, Placement, Schedule, StatePlan
from remora.simulator.records import Verification
from tests.executor.memory.plans import schedule
from tests.executor.memory.toys import chain
from tests.executor.state.plans import HOST_STEP, streaming, with_state

EIGHT_BIT = StatePlan(optimizer=Placement.EIGHT_BIT)


def _verify(plan: Schedule, optimizer_name: str = "adamw") -> Verification:
    model, inputs, graph = chain(3)
    return verify(model, inputs, None, graph, plan, optimizer_name=optimizer_name, repetitions=3)


@pytest.mark.parametrize("optimizer_name", ["adamw", "none"])
def test_state_on_the_host_passes_bit_by_bit(optimizer_name: str) -> None:
    _, _, graph = chain(3)
    for state in (HOST_STEP, streaming(graph, gradients=Placement.HOST)):
        verdict = _verify(with_state(schedule(graph, Action.RECOMPUTE), state), optimizer_name)
        assert verdict.passed, verdict.detail
        assert verdict.max_parameter_difference == 0.0
        assert verdict.max_gradient_difference == 0.0


def test_the_model_is_left_as_it_was() -> None:
    model, inputs, graph = chain(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    storages = [p.untyped_storage().data_ptr() for p in model.parameters()]
    assert verify(model, inputs, None, graph, with_state(schedule(graph), streaming(graph))).passed
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert len(set(storages)) == len({p.data_ptr() for p in model.parameters()})


def test_weights_that_come_back_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = StreamedStorage.fetch
    count = 0

    def late(self: StreamedStorage) -> None:
        nonlocal count
        count += 1
        fetch(self)
        if count > 20:
            self._storage.fill_(0)

    monkeypatch.setattr(StreamedStorage, "fetch", late)
    _, _, graph = chain(3)
    verdict = _verify(with_state(schedule(graph), streaming(graph)))
    assert "gradients_differ" in verdict.failures


def test_less_is_resident_with_the_state_on_the_host() -> None:
    model, inputs, graph = chain(3)
    weights = sum(p.numel() * 4 for p in model.parameters())
    resident = []
    for state in (StatePlan(), HOST_STEP, streaming(graph)):
        with apply(model, graph, with_state(schedule(graph), state)) as handle:
            step = TrainingStep(model, inputs, None, "adamw", handle)
            step.run()
            resident.append(step.resident_bytes())
    on_device, stepped, streamed = resident
    # AdamW also counts the steps of every weight in a tensor of its own.
    assert on_device - stepped == 2 * weights + 4 * len(list(model.parameters()))
    assert stepped - streamed == weights


@pytest.fixture
def _without_compiler() -> Iterator[None]:
    """Let torchao run its step as it is written."""
    pytest.importorskip("torchao.optim")
    with torch.compiler.set_stance("force_eager"):
        yield


def _wide() -> tuple[nn.Module, tuple[Tensor, ...], ModelGraph, Schedule]:
    """Weights large enough that their state is quantised, and no gradient that is zero at times.

    In eight bits the mean square of a small gradient becomes zero, and where the next gradient is
    zero too, Adam divides by next to nothing.
    """
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
    inputs = (torch.randn(16, 64),)
    graph = trace(copy.deepcopy(model), inputs)
    return model, inputs, graph, with_state(schedule(graph), EIGHT_BIT)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.usefixtures("_without_compiler")
@pytest.mark.parametrize("optimizer_name", ["adamw", "adam"])
def test_an_optimizer_in_eight_bits_ends_close(optimizer_name: str) -> None:
    model, inputs, graph, plan = _wide()
    verdict = verify(model, inputs, None, graph, plan, optimizer_name=optimizer_name, repetitions=3)
    assert verdict.passed, verdict.detail
    assert 0.0 < verdict.max_parameter_difference < 1e-2
    assert verdict.max_gradient_difference == 0.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.usefixtures("_without_compiler")
def test_eight_bits_take_a_quarter_of_the_memory() -> None:
    model, inputs, graph, plan = _wide()
    with apply(model, graph, plan) as handle:
        step = TrainingStep(model, inputs, None, "adamw", handle)
        before = step.resident_bytes()
        step.run()
        state = step.resident_bytes() - before
    weights = sum(p.numel() for p in model.parameters())
    assert state < 0.3 * 8 * weights


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_an_optimizer_without_eight_bits_is_refused() -> None:
    pytest.importorskip("torchao.optim")
    model, _, graph, plan = _wide()
    factory = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    with (
        apply(model, graph, plan) as handle,
        pytest.raises(InvalidInputError, match="'8bit' with optimizer SGD; allowed with Adam"),
    ):
        handle.make_optimizer(factory)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_an_optimizer_in_eight_bits_compiles() -> None:
    pytest.importorskip("torchao.optim")
    model, inputs, graph, plan = _wide()
    verdict = verify(model, inputs, None, graph, plan, repetitions=3)
    assert verdict.passed, verdict.detail
