"""A step at other sizes of its batch is the one that its real inputs would give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from remora.api import batch_tracer
from remora.api.batch_limit import MOST_SAMPLES
from remora.api.batch_tracer import BatchTracer
from remora.api.request import Request
from remora.errors import TraceError
from remora.graph.batch import with_batch
from remora.graph.trace import trace
from remora.zoo import Example
from tests.api.small_models import BATCH, make_stack


class _Reading(nn.Module):
    """Takes another path for inputs of another kind, as some models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:  # [batch, 4]
        return self.layer(x) if x.isnan().any() else self.layer(x).relu()


class _Counting(_Reading):
    """Reads what it has computed."""

    def forward(self, x: Tensor) -> Tensor:  # [batch, 4]
        y = self.layer(x)
        return y * float(y.sum())


def _tracer(model: nn.Module, inputs: tuple[Tensor, ...]) -> BatchTracer:
    return BatchTracer(Example(model, inputs), Request())


@pytest.mark.parametrize("size", [1, BATCH, 5 * BATCH])
@pytest.mark.parametrize("most_bytes", [0, 2**20])
def test_inputs_without_values_give_the_same_graph(
    size: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_tracer, "MAX_REAL_BYTES", most_bytes)
    model, inputs = make_stack()
    tracer = _tracer(model, inputs)
    assert tracer.at(size).graph.content_hash == trace(model, with_batch(inputs, size)).content_hash
    assert tracer.most == MOST_SAMPLES


def test_a_model_that_reads_its_inputs_gets_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_tracer, "MAX_REAL_BYTES", 0)
    model, inputs = _Reading(), (torch.ones(2, 4),)
    with pytest.raises(TraceError):
        trace(model, with_batch(inputs, 8, most_float_bytes=0))
    traced = _tracer(model, inputs).at(8).graph
    assert traced.content_hash == trace(model, with_batch(inputs, 8)).content_hash
    assert traced.traced_with == "fake"


def test_a_model_that_has_to_run_is_not_stretched() -> None:
    tracer = _tracer(_Counting(), (torch.ones(2, 4),))
    assert tracer.at(2).graph.traced_with == "real"
    assert tracer.most == 32
