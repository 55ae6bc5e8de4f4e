"""torch.compile around and inside a model that runs by a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.executor.memory.install import apply
from tests.executor.memory.loops import PLANS, batches, make_model, outcome, plan_of, unequal
from tests.executor.memory.plans import schedule


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _compiled(model: nn.Module) -> Callable[..., Any]:
    return torch.compile(model, backend="aot_eager")


def _train(run: Callable[..., Any]) -> Callable[[nn.Module], None]:
    def loop(model: nn.Module) -> None:
        for x in batches(2):
            run(x).square().mean().backward()

    return loop


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("order", ["compiled after", "compiled before", "called before"])
def test_a_compiled_model_runs_by_its_plan(name: str, order: str) -> None:
    plain_model, _ = make_model()
    plain = outcome(plain_model, _train(plain_model))
    model, graph = make_model()
    early = _compiled(model)
    if order == "called before":
        early(batches(1)[0])
        model.load_state_dict(make_model()[0].state_dict())
    with apply(model, graph, plan_of(graph, name)) as handle:
        run = _compiled(model) if order == "compiled after" else early
        assert unequal(plain, outcome(model, _train(run))) == []
        moves = name in ("offload", "partial", "mixture")
        assert (handle.host_peak_bytes > 0) == moves


def test_a_whole_graph_is_refused_with_the_reason() -> None:
    model, graph = make_model()
    with apply(model, graph, plan_of(graph, "recompute")):
        whole = torch.compile(model, backend="aot_eager", fullgraph=True)
        with pytest.raises(Exception, match="the model runs by a Remora plan"):
            whole(batches(1)[0])


def test_compiled_again_after_the_plan_is_removed() -> None:
    model, graph = make_model()
    with apply(model, graph, plan_of(graph, "mixture")):
        model(batches(1)[0]).sum().backward()
    (x,) = batches(1)
    compiled = torch.compile(model.eval(), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), model(x))


@pytest.mark.parametrize("name", ["keep all", "recompute"])
def test_compiled_models_are_refused(name: str) -> None:
    model, graph = make_model()
    plan = schedule(graph) if name == "keep all" else plan_of(graph, name)
    with pytest.raises(InvalidInputError, match=r"the model is compiled by torch\.compile"):
        apply(_compiled(model), graph, plan)
    model.blocks[1].compile(backend="aot_eager")
    with pytest.raises(InvalidInputError, match=r"module 'blocks\.1' is compiled"):
        apply(model, graph, plan)
    assert "forward" not in vars(model)


def test_compiled_blocks_are_refused() -> None:
    model, graph = make_model()
    model.blocks[2] = _compiled(model.blocks[2])
    with pytest.raises(InvalidInputError, match=r"module 'blocks\.2' is compiled"):
        apply(model, graph, plan_of(graph, "offload"))
