"""Applying and removing a plan: what is touched, and that it is put back exactly."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.executor.memory.install import apply
from remora.hardware.hardware import Hardware, HostLink, Link
from remora.schedule.schedule import Action, PipelineKind, PipelinePlan, Schedule
from tests.executor.memory.plans import schedule
from tests.executor.memory.toys import chain


def _state(model: nn.Module) -> list[dict[str, object]]:
    """Every attribute of every module, by identity."""
    return [{name: id(value) for name, value in vars(m).items()} for m in model.modules()]


def _hooks(model: nn.Module) -> int:
    return sum(
        len(value)
        for module in model.modules()
        for name, value in vars(module).items()
        if name.endswith("_hooks")
    )


def test_keep_all_installs_nothing() -> None:
    model, inputs, graph = chain(3)
    before = _state(model)
    handle = apply(model, graph, schedule(graph))
    assert _state(model) == before
    output = model(*inputs)
    assert type(output.grad_fn).__name__ == "AddBackward0"
    assert _state(model)[0] == before[0]
    handle.remove()


def test_remove_restores_the_model_exactly() -> None:
    model, _, graph = chain(3)
    before = _state(model)
    handle = apply(model, graph, schedule(graph, {0: Action.RECOMPUTE, 1: Action.OFFLOAD}))
    assert "forward" in vars(model)
    assert _hooks(model) == 0
    handle.remove()
    assert _state(model) == before
    assert all("forward" not in vars(module) for module in model.modules())
    handle.remove()


def test_a_forward_that_was_replaced_before_is_put_back() -> None:
    model, _, graph = chain(2)
    own = model.blocks[0].forward
    model.blocks[0].forward = own
    with apply(model, graph, schedule(graph, Action.RECOMPUTE)):
        assert vars(model.blocks[0])["forward"] is not own
    assert vars(model.blocks[0])["forward"] is own


def _with_a_file(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    found: nn.Module = torch.load(file, weights_only=False)
    return found


@pytest.mark.parametrize("copied", [copy.deepcopy, _with_a_file])
@pytest.mark.parametrize("replaced", [False, True])
def test_copies_of_a_planned_model_are_plain(
    copied: Callable[[nn.Module], nn.Module], replaced: bool
) -> None:
    model, inputs, graph = chain(3)
    if replaced:
        model.blocks[1].forward = model.blocks[1].forward
    with apply(model, graph, schedule(graph, Action.RECOMPUTE)):
        other = copied(model)
        assert inspect.signature(model.forward) == inspect.signature(other.forward)
        other(*inputs).sum().backward()
        assert model.calls() == [0, 0, 0]
        assert other.calls() == [1, 1, 1]
        assert all(p.grad is None for p in model.parameters())
    with apply(other, graph, schedule(graph, Action.RECOMPUTE)):
        other(*inputs).sum().backward()
        assert other.calls() == [3, 3, 3]


def test_removing_under_another_wrapper_is_refused() -> None:
    model, _, graph = chain(2)
    handle = apply(model, graph, schedule(graph, Action.RECOMPUTE))
    ours = model.blocks[1].forward
    model.blocks[1].forward = functools.partial(ours)
    with pytest.raises(RuntimeError, match=r"'blocks\.1' was wrapped by somebody else"):
        handle.remove()
    model.blocks[1].forward = ours
    handle.remove()
    assert "forward" not in vars(model)


@pytest.mark.parametrize("action", [Action.RECOMPUTE, Action.OFFLOAD])
def test_without_gradients_the_model_runs_as_it_is(action: Action) -> None:
    model, inputs, graph = chain(3)
    model.eval()
    plain = model(*inputs)
    model.reset()
    with apply(model, graph, schedule(graph, action)) as handle:
        with torch.no_grad():
            assert torch.equal(model(*inputs), plain)
        assert model.calls() == [1, 1, 1]
        assert handle.host_peak_bytes == 0


def test_calling_a_block_outside_of_the_model() -> None:
    model, inputs, graph = chain(2)
    with apply(model, graph, schedule(graph, Action.RECOMPUTE)):
        model.blocks[1](inputs[0]).sum().backward()
    assert model.calls() == [0, 1]


def test_schedule_of_another_graph_is_refused() -> None:
    model, _, graph = chain(2)
    wrong = dataclasses.replace(schedule(graph), graph_hash="0" * 16)
    with pytest.raises(InvalidInputError, match="graph_hash"):
        apply(model, graph, wrong)


def test_pipelines_are_refused() -> None:
    model, _, graph = chain(2)
    plain = schedule(graph)
    piped = Schedule(plain.graph_hash, plain.memory, PipelinePlan(PipelineKind.GPIPE))
    with pytest.raises(InvalidInputError, match=r"pipeline\.kind is 'gpipe'"):
        apply(model, graph, piped)


def test_a_model_without_the_modules_is_refused() -> None:
    _, _, graph = chain(3)
    smaller, _, _ = chain(2)
    before = _state(smaller)
    with pytest.raises(InvalidInputError, match=r"no module 'blocks\.2'"):
        apply(smaller, graph, schedule(graph, Action.RECOMPUTE))
    assert _state(smaller) == before


def test_offloading_needs_a_host_pool() -> None:
    model, _, graph = chain(2)
    link = Link(1e9, 0.0)
    host = HostLink(1 << 30, 1e9, 1e9, 0.0, 1, unified=True, pool="none")
    hardware = Hardware("box", "cpu", 1, 1 << 30, 0, {"float32": 1e9}, 1e9, 0.0, host, link, link)
    with pytest.raises(InvalidInputError, match=r"'box' has host\.pool='none'"):
        apply(model, graph, schedule(graph, Action.OFFLOAD), hardware)
