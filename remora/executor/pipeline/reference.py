"""The step that a pipeline must equal: one process, the same micro-batches in order, same seeds.

It runs the model's own ``forward``; nothing of the recorded calls is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from remora.executor.compare import Outcome
from remora.executor.memory.ambient import random_state, random_state_of
from remora.executor.pipeline.job import RanksJob, copied
from remora.executor.pipeline.seeds import UnitSeeds
from remora.executor.step import State, make_optimizer
from remora.executor.training import TRAINED_STEPS
from remora.executor.verdict import TrainedOutcome
from remora.graph.loss import ExampleInputs, call_model, resolve_loss
from remora.graph.model_graph import ModelGraph, ModuleCall
from remora.graph.wrapping import wrapped_forwards

__all__ = ["planted_forward", "reference_outcome"]


def reference_outcome(job: RanksJob, state: State, device: torch.device) -> TrainedOutcome:
    """Run a step, and from the same state again a few optimizer steps.

    Args:
        job: its model is on the device.
        state: of the model at the beginning, to which it is put back between the two.
        device: of the model.
    """
    torch.manual_seed(job.seed)
    losses: list[Tensor] = []
    buffers: dict[str, Tensor] = {}
    for replica in range(len(job.replicas)):
        state.restore_buffers()
        losses += _run_replica(job, replica, 0, device)
        buffers = buffers or {n: b.detach().cpu().clone() for n, b in job.model.named_buffers()}
    gradients = {name: copied(p.grad) for name, p in job.model.named_parameters()}
    loss = torch.stack(losses).mean().cpu()
    outcome = Outcome(loss, gradients, buffers, (torch.get_rng_state(),))
    state.restore()
    return TrainedOutcome(outcome, _trained(job, device))


def _trained(job: RanksJob, device: torch.device) -> dict[str, Tensor]:
    stepping = "sgd" if job.optimizer_name == "none" else job.optimizer_name
    optimizer = make_optimizer(job.model, stepping)
    for step in range(TRAINED_STEPS):
        for replica in range(len(job.replicas)):
            _run_replica(job, replica, step, device)
        if optimizer is not None:
            optimizer.step()
        job.model.zero_grad(set_to_none=True)
    return {name: p.detach().to("cpu", copy=True) for name, p in job.model.named_parameters()}


def _run_replica(job: RanksJob, replica: int, step: int, device: torch.device) -> list[Tensor]:
    """Forwards and backwards of one replica; the loss is the mean over all micro-batches."""
    seeds = UnitSeeds(job.graph, job.seed, replica)
    seeds.step = step
    micro_batches = job.batch_on(device, replica)
    share = 1 / (len(micro_batches) * len(job.replicas))
    with random_state_of(random_state(device), device):
        return [
            _run(job, inputs, seeds, number, share) for number, inputs in enumerate(micro_batches)
        ]


def planted_forward(
    model: nn.Module,
    inputs: ExampleInputs,
    graph: ModelGraph,
    seeds: UnitSeeds,
    micro_batch: int,
    of_output: Callable[[Any], Any],
) -> Any:
    """Run the model's own forward, with the seeds of a micro-batch planted where units begin.

    Args:
        model: whole, on its device.
        inputs: of the micro-batch.
        graph: of one micro-batch.
        seeds: of the random operators.
        micro_batch: its number.
        of_output: what is made of the output, by a unit of its own where the graph has one.
    """
    begins = {unit.marker: unit.index for unit in graph.units if unit.marker is not None}
    calls: Counter[str] = Counter()

    def plant(unit: int) -> None:
        seed = seeds.of(unit, micro_batch)
        if seed is not None:
            seeds.plant(seed)

    def run_module(
        path: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = ModuleCall(path, calls[path])
        calls[path] += 1
        if call in begins:
            plant(begins[call])
        return forward(*args, **kwargs)

    with wrapped_forwards(model, {call.path for call in begins}, run_module):
        plant(0)
        output = call_model(model, inputs)
    last = graph.units[-1]
    if last.index > 0 and last.marker is None:
        plant(last.index)
    return of_output(output)


def _run(
    job: RanksJob, inputs: ExampleInputs, seeds: UnitSeeds, number: int, share: float
) -> Tensor:
    """Forward and backward of one micro-batch."""
    of_output = resolve_loss(job.loss)
    value: Tensor = planted_forward(job.model, inputs, job.graph, seeds, number, of_output)
    (value * share).backward()
    return value.detach()
