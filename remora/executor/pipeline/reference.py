"""The step that a pipeline must equal: one process, the same micro-batches in order, same seeds.

It runs the model's own ``forward``; nothing of the recorded calls is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from remora.executor.memory.ambient import random_state, random_state_of
from remora.executor.memory.install import wrapped_forwards
from remora.executor.pipeline.seeds import UnitSeeds
from remora.executor.step import model_device
from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss
from remora.graph.model_graph import ModelGraph, ModuleCall

__all__ = ["run_reference"]


def run_reference(
    model: nn.Module,
    replicas: Sequence[Sequence[ExampleInputs]],
    loss: LossFunction | None,
    graph: ModelGraph,
    seed: int,
    step: int,
) -> list[list[Tensor]]:
    """Run forwards and backwards of one step; the loss is the mean over all micro-batches.

    Args:
        model: gradients are added to its parameters'.
        replicas: micro-batches of every replica.  # [replicas][micro_batches]
        loss: of the output; None for the default.
        graph: of one micro-batch.
        seed: of the random operators.
        step: number of the step.

    Returns:
        loss of every micro-batch, scalars.  # [replicas][micro_batches]
    """
    device = model_device(model)
    losses: list[list[Tensor]] = []
    with random_state_of(random_state(device), device):
        for replica, micro_batches in enumerate(replicas):
            seeds = UnitSeeds(graph, seed, replica)
            seeds.step = step
            share = 1 / (len(micro_batches) * len(replicas))
            losses.append(
                [
                    _run(model, inputs, loss, graph, _Planter(seeds, number), share)
                    for number, inputs in enumerate(micro_batches)
                ]
            )
    return losses


class _Planter:
    """Plants the seed of a unit where its first module is called."""

    def __init__(self, seeds: UnitSeeds, micro_batch: int) -> None:
        self._seeds = seeds
        self._micro_batch = micro_batch

    def plant(self, unit: int) -> None:
        seed = self._seeds.of(unit, self._micro_batch)
        if seed is not None:
            self._seeds.plant(seed)


def _run(
    model: nn.Module,
    inputs: ExampleInputs,
    loss: LossFunction | None,
    graph: ModelGraph,
    planter: _Planter,
    share: float,
) -> Tensor:
    begins = {unit.marker: unit.index for unit in graph.units if unit.marker is not None}
    calls: Counter[str] = Counter()

    def run_module(
        path: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = ModuleCall(path, calls[path])
        calls[path] += 1
        if call in begins:
            planter.plant(begins[call])
        return forward(*args, **kwargs)

    with wrapped_forwards(model, {call.path for call in begins}, run_module):
        planter.plant(0)
        output = call_model(model, inputs)
    last = graph.units[-1]
    if last.index > 0 and last.marker is None:
        planter.plant(last.index)
    value = resolve_loss(loss)(output)
    del output
    with torch.enable_grad():
        (value * share).backward()
    return value.detach()
