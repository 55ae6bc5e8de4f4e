"""Workspace of single operators: what the allocator sees inside of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from remora.executor.replay import workspace as workspace_module
from remora.executor.replay.workspace import measure_workspace
from remora.graph.model_graph import ModelGraph
from remora.graph.signature import op_signature
from remora.graph.trace import trace

CPU = torch.device("cpu")


class Apply(nn.Module):
    """A function of the input and one weight."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


def attention(x: Tensor, weight: Tensor) -> Tensor:
    queries = (x * weight).view(2, 4, 64, 16)  # [batch, heads, rows, width]
    return nn.functional.scaled_dot_product_attention(queries, queries, queries)


CASES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...], Tensor]] = {
    "convolution": (
        lambda x, w: nn.functional.conv2d(x, w, padding=1),
        (32, 16, 3, 3),
        torch.ones(2, 16, 16, 16),
    ),
    "strided product": (lambda x, w: x.transpose(1, 2) @ w, (8, 8), torch.ones(3, 8, 5)),
    "attention": (attention, (2, 4, 64, 16), torch.ones(2, 4, 64, 16)),
    "fft": (lambda x, w: torch.fft.irfft2(torch.fft.rfft2(x * w)), (16, 16), torch.ones(2, 16, 16)),
    "batch norm": (
        lambda x, w: nn.functional.batch_norm(x, None, None, w, training=True),
        (4,),
        torch.ones(2, 4, 8, 8),
    ),
    "group norm": (
        lambda x, w: nn.functional.group_norm(x, 2, w),
        (4,),
        torch.ones(2, 4, 8, 8),
    ),
    "embedding": (
        nn.functional.embedding,
        (9, 4),
        torch.tensor([[1, 2], [3, 1]]),
    ),
    "index": (lambda x, w: w[x] * 2, (9, 4), torch.tensor([[1, 2], [3, 1]])),
}


def traced(name: str) -> ModelGraph:
    function, shape, x = CASES[name]
    return trace(Apply(function, shape), (x,))


def all_signatures(graph: ModelGraph) -> set[str]:
    return {op_signature(graph, op) for op in graph.ops if not op.view}


@pytest.mark.parametrize("name", CASES)
def test_every_operator_runs(name: str) -> None:
    graph = traced(name)
    found, notes = measure_workspace(graph, all_signatures(graph), CPU)
    assert notes == ()
    assert found.keys() == all_signatures(graph)
    assert min(found.values()) >= 0


def test_convolution_takes_workspace_and_addition_none() -> None:
    graph = traced("convolution")
    found, _ = measure_workspace(graph, all_signatures(graph), CPU)
    by_name = {op.name: found[op_signature(graph, op)] for op in graph.ops if not op.view}
    assert by_name["aten.sum.default"] == 0
    assert by_name["aten.convolution.default"] == pytest.approx(
        peak_beyond_result(
            lambda: nn.functional.conv2d(CASES["convolution"][2], ones(), padding=1)
        ),
        abs=1024,
    )


def ones() -> Tensor:
    return torch.ones(32, 16, 3, 3)


def peak_beyond_result(function: Callable[[], Tensor]) -> int:
    """Peak of the allocator's events in ``function``, less its result and less its arguments."""
    from torch.profiler import ProfilerActivity, profile

    weight_bytes = ones().nbytes
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = function()
    level = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak - result.nbytes - weight_bytes


def test_only_the_signatures_asked_for() -> None:
    graph = traced("group norm")
    wanted = set(sorted(all_signatures(graph))[:1])
    found, _ = measure_workspace(graph, wanted, CPU)
    assert found.keys() == wanted


def test_operator_that_does_not_fit_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = traced("convolution")
    monkeypatch.setattr(workspace_module, "free_memory_bytes", lambda device_type: 10)
    found, notes = measure_workspace(graph, all_signatures(graph), CPU)
    assert all("not measured" in note for note in notes)
    assert len(found) + len(notes) == len(all_signatures(graph))
