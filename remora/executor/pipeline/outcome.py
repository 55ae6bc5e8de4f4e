"""What the ranks of a pipeline did in a step, brought together on rank 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from remora.executor.compare import Outcome, largest_difference
from remora.executor.pipeline.job import RanksJob, copied
from remora.executor.pipeline.rank_pipeline import RankPipeline
from remora.executor.pipeline.training import PipelineStep
from remora.executor.pipeline.world import World
from remora.executor.state.sharding import whole_tensor
from remora.executor.training import TRAINED_STEPS
from remora.executor.verdict import TrainedOutcome

__all__ = ["RankOutcome", "gathered", "joined_outcome", "run_ranks"]


_Value = Any  # a tensor, or None for the gradient of a weight that has none


@dataclass(frozen=True)
class RankOutcome:
    """One rank's part, in host memory.

    Attributes:
        replica: of the rank.
        losses: of the micro-batches that end there.
        gradients, buffers, parameters: of its stages, by name in the model.
        random_state: of the CPU generator after the step.
        errors: of compressed tensors, by name.
    """

    replica: int
    losses: list[Tensor]
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    parameters: dict[str, Tensor]
    random_state: Tensor
    errors: dict[str, float]


def run_ranks(
    job: RanksJob,
    pipeline: RankPipeline,
    restore: Callable[[], None],
    world: World,
    device: torch.device,
) -> RankOutcome:
    """Run a step on this rank, and from the same state again a few optimizer steps.

    Args:
        job: what to run.
        pipeline: of this rank.
        restore: puts weights, buffers and gradients back.
        world: where this process stands.
        device: of this rank.
    """
    batch = job.batch_on(device, world.replica)
    torch.manual_seed(job.seed)
    losses = pipeline.run(batch, 0)
    gradients = {name: _whole(p.grad) for name, p in pipeline.parameters.items()}
    buffers = {name: b.detach().to("cpu", copy=True) for name, b in pipeline.buffers.items()}
    random_state = torch.get_rng_state()
    restore()
    step = PipelineStep(
        pipeline, batch, "sgd" if job.optimizer_name == "none" else job.optimizer_name
    )
    for _ in range(TRAINED_STEPS):
        step.run()
    parameters = {
        name: whole_tensor(p.detach()).to("cpu", copy=True)
        for name, p in pipeline.parameters.items()
    }
    return RankOutcome(
        world.replica,
        [loss.cpu() for loss in losses.values()],
        gradients,
        buffers,
        parameters,
        random_state,
        dict(pipeline.compression_errors),
    )


def _whole(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else copied(whole_tensor(gradient))


def gathered(own: RankOutcome, cut: Mapping[str, int], degree: int) -> list[RankOutcome]:
    """Bring the parts of all ranks to rank 0, in order; nothing elsewhere.

    Args:
        own: of this rank.
        cut: dimensions in which weights are cut over ranks that share layers, by name.
        degree: how many of those there are, one after the other.
    """
    if dist.get_rank() != 0:
        dist.gather_object(own, None)
        return []
    parts: list[RankOutcome] = [own] * dist.get_world_size()
    dist.gather_object(own, parts)
    groups = (parts[first : first + degree] for first in range(0, len(parts), degree))
    return [part for group in groups for part in _put_together(group, cut)]


def _put_together(group: Sequence[RankOutcome], cut: Mapping[str, int]) -> list[RankOutcome]:
    """Give the first rank whole weights and the losses; the others keep what they have whole."""
    first, *others = group
    if not others:
        return [first]
    return [
        replace(
            first,
            gradients=_joined([part.gradients for part in group], cut),
            parameters=_joined([part.parameters for part in group], cut),
        ),
        *(
            replace(
                part,
                losses=[],
                gradients={n: g for n, g in part.gradients.items() if n not in cut},
                parameters={n: p for n, p in part.parameters.items() if n not in cut},
            )
            for part in others
        ),
    ]


def _joined(tables: Sequence[Mapping[str, _Value]], cut: Mapping[str, int]) -> dict[str, _Value]:
    found = dict(tables[0])
    for name, dimension in cut.items():
        slices = [table[name] for table in tables if table.get(name) is not None]
        if slices:
            found[name] = torch.cat(slices, dim=dimension)
    return found


def joined_outcome(
    parts: Sequence[RankOutcome], plain: TrainedOutcome, start_buffers: Mapping[str, Tensor]
) -> TrainedOutcome:
    """Join the parts of all ranks into one outcome.

    Where several ranks have a weight, the copy counts that is farthest from the plain one.

    Args:
        parts: of all ranks.
        plain: what they are compared with.
        start_buffers: of the model before the step; those that no rank has stay as they were.
    """
    losses = [loss for part in parts for loss in part.losses]
    gradients: dict[str, Tensor | None] = {}
    parameters: dict[str, Tensor | None] = {}
    buffers: dict[str, Tensor] = {}
    for part in parts:
        _join(gradients, part.gradients, plain.outcome.gradients)
        _join(parameters, part.parameters, plain.parameters)
        if part.replica == 0:
            buffers.update(part.buffers)
    before = plain.outcome.random_states[0]
    changed = [p.random_state for p in parts if not torch.equal(p.random_state, before)]
    outcome = Outcome(
        loss=torch.stack(losses).mean(),
        gradients=gradients,
        buffers={**start_buffers, **buffers},
        random_states=(changed[0] if changed else before,),
    )
    return TrainedOutcome(outcome, {n: p for n, p in parameters.items() if p is not None})


def _join(
    joined: dict[str, Tensor | None],
    own: dict[str, Tensor | None] | dict[str, Tensor],
    plain: object,
) -> None:
    assert isinstance(plain, dict)
    for name, value in own.items():
        if name not in joined:
            joined[name] = value
            continue
        wanted = {name: plain[name]}
        here = largest_difference(wanted, {name: value}).relative
        if here > largest_difference(wanted, {name: joined[name]}).relative:
            joined[name] = value
