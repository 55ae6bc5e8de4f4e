"""What passes and generations leave behind: of one process, and of the ranks of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from remora.executor.memory.ambient import random_state, random_state_of
from remora.executor.passes.runs import Generation
from remora.executor.pipeline.passes.generation import RankGeneration
from remora.executor.pipeline.passes.pipeline_pass import PipelinePass
from remora.executor.pipeline.passes.rank_passes import RankPasses
from remora.executor.pipeline.reference import planted_forward
from remora.executor.pipeline.seeds import UnitSeeds
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.schedule.inference import InferenceSpec

__all__ = ["PassOutcome", "gathered", "plain_outcome", "rank_outcome"]


@dataclass(frozen=True)
class PassOutcome:
    """Copies in host memory.

    Attributes:
        outputs: tensors of the outputs of all micro-batches, one after the other.
        tokens: ids of prompts and new tokens of all sequences; empty without generation.
            # [sequences, tokens]
        buffers: afterwards, by name in the model.
        random_state: of the CPU generator afterwards.
    """

    outputs: list[Tensor]
    tokens: Tensor
    buffers: dict[str, Tensor]
    random_state: Tensor


def plain_outcome(
    model: nn.Module,
    replicas: Sequence[Sequence[ExampleInputs]],
    graph: ModelGraph,
    spec: InferenceSpec,
    seed: int,
    device: torch.device,
) -> PassOutcome:
    """Run the model's own forward and ``generate`` on one micro-batch after the other.

    Args:
        model: whole, in evaluation mode, on the device.
        replicas: micro-batches of every replica, on the device.  # [replicas][micro_batches]
        graph: of one micro-batch.
        spec: tokens of prompt and after it.
        seed: of the random operators.
        device: of the model.
    """
    torch.manual_seed(seed)
    outputs: list[Tensor] = []
    for replica, micro_batches in enumerate(replicas):
        seeds = UnitSeeds(graph, seed, replica)
        with torch.no_grad(), random_state_of(random_state(device), device):
            for number, inputs in enumerate(micro_batches):
                made = planted_forward(model, inputs, graph, seeds, number, pytree.tree_leaves)
                outputs += [_copy(leaf) for leaf in made if isinstance(leaf, Tensor)]
    state = torch.get_rng_state()
    made_tokens = []
    if spec.generated_tokens:
        parts = [inputs for micro_batches in replicas for inputs in micro_batches]
        amounts = (spec.prompt_tokens, spec.generated_tokens)
        made_tokens = [Generation.of(model, inputs, *amounts).tokens() for inputs in parts]
    tokens = torch.cat(made_tokens) if made_tokens else torch.empty(0)
    buffers = {name: _copy(buffer) for name, buffer in model.named_buffers()}
    return PassOutcome(outputs, tokens, buffers, state)


def rank_outcome(
    passes: RankPasses, step: PipelinePass, generation: RankGeneration | None, seed: int
) -> PassOutcome:
    """Run a pass and a generation on this rank; outputs are those that end on it."""
    torch.manual_seed(seed)
    results = step.results()
    outputs = [_copy(tensor) for number in sorted(results) for tensor in results[number]]
    state = torch.get_rng_state()
    tokens = torch.empty(0) if generation is None else generation.tokens()
    buffers = {name: _copy(buffer) for name, buffer in passes.buffers.items()}
    return PassOutcome(outputs, tokens, buffers, state)


def gathered(
    own: PassOutcome, replicas: int, start_buffers: Mapping[str, Tensor]
) -> PassOutcome | None:
    """Bring the parts of all ranks together on rank 0; None elsewhere.

    Args:
        own: of this rank.
        replicas: pipelines side by side.
        start_buffers: of the model before; those that no rank has stay as they were.
    """
    if dist.get_rank() != 0:
        dist.gather_object(own, None)
        return None
    parts: list[PassOutcome] = [own] * dist.get_world_size()
    dist.gather_object(own, parts)
    buffers = dict(start_buffers)
    for part in parts[::replicas]:
        buffers.update(part.buffers)
    changed = [p for p in parts if not torch.equal(p.random_state, own.random_state)]
    return PassOutcome(
        outputs=[tensor for part in parts for tensor in part.outputs],
        # The ranks of a pipeline choose alike, or the last ones do not equal the plain tokens.
        tokens=torch.cat([part.tokens for part in parts[-replicas:]]),
        buffers=buffers,
        random_state=(changed or [own])[0].random_state,
    )


def _copy(tensor: Any) -> Tensor:
    copied: Tensor = tensor.detach().to("cpu", copy=True)
    return copied
