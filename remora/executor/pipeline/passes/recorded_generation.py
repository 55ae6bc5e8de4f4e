"""The passes of a generation, recorded one after the other on stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from remora.errors import InvalidInputError
from remora.executor.passes.cache_stream import find_cache
from remora.executor.passes.runs import Generation
from remora.executor.pipeline.forward_tape import ForwardTape, record_pass
from remora.graph.model_graph import ModelGraph
from remora.graph.wrapping import wrap

__all__ = ["RecordedPass", "record_generation"]


@dataclass(frozen=True)
class RecordedPass:
    """One pass of a generation over a micro-batch.

    Attributes:
        tape: its calls; the result is the logits of the last position, ``[batch, 1, vocabulary]``.
        cache: the one among the arguments of its calls.
        shapes: of the leaves of its inputs; None for leaves that are no tensors.
        output_type: of the model's output.
    """

    tape: ForwardTape
    cache: Any
    shapes: tuple[torch.Size | None, ...]
    output_type: Callable[..., Any]


def record_generation(
    generation: Generation, graph: ModelGraph, device: torch.device
) -> tuple[RecordedPass, ...]:
    """Record every pass: each finds a longer cache than the one before, so none is like another.

    The model's ``generate`` runs as it does, over passes that are recorded instead of run, with
    logits of zero. The cache holds stand-ins meanwhile, so this takes no memory.

    Args:
        generation: of one micro-batch; its model is in evaluation mode.
        graph: of one micro-batch.
        device: where the passes will run.

    Returns:
        The pass over the prompt, and one for each new token but the last.

    Raises:
        InvalidInputError: the model keeps a cache that cannot be recorded.
    """
    recorder = _Recorder(generation, graph, device)
    wrapper = wrap(generation.model, "", recorder.run)
    try:
        generation.run()
    finally:
        wrapper.remove()
    return tuple(recorder.found)


class _Recorder:
    """Stands for the forward of the model while its passes are recorded."""

    def __init__(self, generation: Generation, graph: ModelGraph, device: torch.device) -> None:
        self.found: list[RecordedPass] = []
        self._generation = generation
        self._graph = graph
        self._device = device
        # The cache keeps stand-ins from one pass to the next, so all have the same mode.
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._recording = False

    def run(
        self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._recording:
            return forward(*args, **kwargs)
        model = self._generation.model
        cache = find_cache(args, kwargs)
        if args or not isinstance(getattr(cache, "layers", None), list):
            raise InvalidInputError(
                f"generated_tokens is {self._generation.new_tokens} and the model "
                f"{type(model).__name__} keeps no cache of layers; allowed where ranks or "
                "micro-batches run: 0"
            )
        kinds: list[Callable[..., Any]] = []
        shape: list[torch.Size] = []

        def last_logits(output: Any) -> Tensor:
            kinds.append(type(output))
            logits: Tensor = output.logits[:, -1:]
            shape.append(logits.shape)
            return logits

        self._recording = True
        try:
            tape = record_pass(model, kwargs, self._graph, self._device, last_logits, self._mode)
        finally:
            self._recording = False
        self.found.append(RecordedPass(tape, cache, _shapes(kwargs), kinds[0]))
        return kinds[0](logits=torch.zeros(shape[0]), past_key_values=cache)


def _shapes(inputs: Mapping[str, Any]) -> tuple[torch.Size | None, ...]:
    leaves: Sequence[Any] = pytree.tree_leaves(inputs)
    return tuple(leaf.shape if isinstance(leaf, Tensor) else None for leaf in leaves)
