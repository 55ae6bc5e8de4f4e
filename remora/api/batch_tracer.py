"""A training step, or a pass of inference, traced at several sizes of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from remora.api.batch_limit import MOST_SAMPLES
from remora.api.passes import inference_spec, trace_pass
from remora.errors import ModelRunError, TraceError
from remora.graph.batch import batch_of, with_batch
from remora.graph.fake import MAX_REAL_BYTES
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.inference import InferenceSpec, Mode
from remora.zoo import Example

if TYPE_CHECKING:
    from remora.api.request import Request

__all__ = ["BatchTracer", "SizedTrace"]

_MOST_TIMES_REAL = 16


@dataclass(frozen=True)
class SizedTrace:
    """What was traced at one size.

    Attributes:
        graph: of a step or of a pass.
        inference: tokens and cache, of a pass.
    """

    graph: ModelGraph
    inference: InferenceSpec | None


class BatchTracer:
    """Traces an example at sizes of its batch, each once.

    Large inputs of floats come without values, so that a batch of many samples takes no longer
    than one of few; a model that reads them is traced again with values.

    Args:
        example: the model and its batch.
        request: its mode, and the tokens of a pass.
        units: module paths that begin units.
        model_name: kept in the graphs.
    """

    def __init__(
        self,
        example: Example,
        request: Request,
        units: Sequence[str] | None = None,
        model_name: str = "",
    ) -> None:
        self._example, self._request = example, request
        self._units, self._name = units, model_name
        self._known: dict[int, SizedTrace] = {}

    @property
    def batch(self) -> int:
        """Samples of the example."""
        return batch_of(self._example.example_inputs)

    @property
    def most(self) -> int:
        """The largest size that should be traced: a model that runs for real is not stretched."""
        if self.at(self.batch).graph.traced_with == "real":
            return _MOST_TIMES_REAL * self.batch
        return MOST_SAMPLES

    def at(self, size: int) -> SizedTrace:
        """The trace of so many samples.

        Raises:
            TraceError, ModelRunError: the model could not be traced, or failed on its batch.
        """
        if size not in self._known:
            self._known[size] = self._trace(size)
        return self._known[size]

    def _trace(self, size: int) -> SizedTrace:
        model, given, _ = self._example
        inputs = with_batch(given, size, MAX_REAL_BYTES) if size != self.batch else given
        try:
            graph = self._graph(inputs)
        except (TraceError, ModelRunError):
            if not any(leaf.is_meta for leaf in _tensors(inputs)):
                raise
            inputs = with_batch(given, size)
            graph = self._graph(inputs)
        if self._request.mode != Mode.INFERENCE:
            return SizedTrace(graph, None)
        tokens = self._request.prompt_tokens, self._request.generated_tokens
        return SizedTrace(graph, inference_spec(model, graph, inputs, *tokens))

    def _graph(self, inputs: ExampleInputs) -> ModelGraph:
        model, given, loss = self._example
        device = _device_of(given)
        if self._request.mode == Mode.INFERENCE:
            return trace_pass(model, inputs, self._units, self._name, device)
        return trace(model, inputs, loss, self._units, self._name, device)


def _device_of(inputs: ExampleInputs) -> torch.device | None:
    """Where inputs without values seem to be; None for the CPU, or if nothing says so."""
    devices = {leaf.device for leaf in _tensors(inputs) if leaf.device.type not in ("cpu", "meta")}
    return devices.pop() if len(devices) == 1 else None


def _tensors(inputs: ExampleInputs) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
