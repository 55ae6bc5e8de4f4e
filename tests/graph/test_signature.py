"""Signatures: equal for equal work, different for different layouts or values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from remora.graph.signature import op_signature
from remora.graph.trace import trace


class Apply(nn.Module):
    """A function with one weight, so that there is something to train."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], rows: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(rows, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


def signature_of(
    name: str, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, rows: int = 4
) -> str:
    graph = trace(Apply(function, rows), (x,))
    op = next(op for op in graph.ops if op.name.startswith(name))
    return op_signature(graph, op)


def test_equal_work_has_equal_signatures() -> None:
    first = signature_of("aten.mm", lambda x, w: x @ w, torch.ones(3, 4))
    second = signature_of("aten.mm", lambda x, w: (x @ w) * 2, torch.zeros(3, 4))
    assert first == second
    assert first.startswith("aten.mm.default:")


def test_layout_shape_and_scalars_count() -> None:
    plain = signature_of("aten.mm", lambda x, w: x @ w, torch.ones(3, 4))
    larger = signature_of("aten.mm", lambda x, w: x @ w, torch.ones(5, 4))
    strided = signature_of("aten.mm", lambda x, w: x.t() @ w, torch.ones(4, 3))
    assert len({plain, larger, strided}) == 3
    low = signature_of("aten.clamp", lambda x, w: w.clamp(min=2), torch.ones(1))
    high = signature_of("aten.clamp", lambda x, w: w.clamp(min=3), torch.ones(1))
    assert low != high


def test_one_storage_twice_differs_from_two() -> None:
    same = signature_of("aten.mul.Tensor", lambda x, w: w * w, torch.ones(4, 4))
    other = signature_of("aten.mul.Tensor", lambda x, w: w * x, torch.ones(4, 4))
    assert same != other
