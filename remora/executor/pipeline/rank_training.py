"""Training a model by a schedule of several ranks, from a loop of one's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from remora.executor.pipeline.forward_tape import record_forward
from remora.executor.pipeline.job import make_equal
from remora.executor.pipeline.limits import check_runs_on_ranks
from remora.executor.pipeline.on_rank import OnRank
from remora.executor.pipeline.rank_pipeline import RankPipeline
from remora.executor.pipeline.world import World, join_world, joined_ranks, rank_device
from remora.executor.tensor.shared_layers import WHOLE, SharedLayers, shared_layers
from remora.graph.batch import split_batch
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.assignment import reduced_modules
from remora.graph.precision.reduced import reduced_model
from remora.schedule.schedule import Schedule

__all__ = ["RankTraining", "training_on_ranks"]


class RankTraining(OnRank):
    """One rank of a training run.

    Args:
        pipeline: of this rank.
        world: where this process stands.
        device: where its stages run.
        example_inputs: the batch that was planned for.
        micro_batches: of one step.
        layers: how its weights are cut.
    """

    def __init__(
        self,
        pipeline: RankPipeline,
        world: World,
        device: torch.device,
        example_inputs: ExampleInputs,
        micro_batches: int,
        layers: SharedLayers = WHOLE,
    ) -> None:
        super().__init__(world, device, example_inputs, micro_batches)
        self._layers = layers
        self._pipeline = pipeline
        self._step = 0

    def parameters(self) -> Iterator[nn.Parameter]:
        """Weights of this rank's stages, for its optimizer."""
        yield from self._pipeline.parameters.values()

    def backward(self, batch: ExampleInputs) -> Tensor:
        """Run forwards and backwards of a batch, which adds to the gradients.

        Every rank of a replica calls it with the same batch, of the shape that was planned for.

        Returns:
            Mean loss over the micro-batches of all replicas, the same on every rank; a scalar.

        Raises:
            InvalidInputError: the batch has other names, shapes or values.
        """
        losses = self._pipeline.run(self._parts_of(batch), self._step)
        self._step += 1
        total = torch.zeros((), device=self.device)
        for loss in losses.values():
            total += loss.float()
        dist.all_reduce(total)
        return total / (self._micro_batches * self._world.replicas * self._world.degree)

    def state_dict(self) -> dict[str, Tensor]:
        """Bring weights and buffers of all ranks together, by name in the model.

        Every rank calls it.

        Returns:
            Copies in host memory on rank 0; an empty dictionary elsewhere.
        """
        tensors = {**self._pipeline.parameters, **self._pipeline.buffers}
        own = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        if dist.get_rank() != 0:
            dist.gather_object(own if self._world.replica == 0 else {}, None)
            return {}
        parts: list[dict[str, Tensor]] = [{}] * dist.get_world_size()
        dist.gather_object(own, parts)
        found: dict[str, Tensor] = {}
        for first in range(0, len(parts), self._world.degree):
            found |= self._layers.joined(parts[first : first + self._world.degree])
        return found


@contextlib.contextmanager
def training_on_ranks(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    graph: ModelGraph,
    schedule: Schedule,
    device_type: str,
    *,
    seed: int = 0,
    timeout_s: float = 1800.0,
) -> Iterator[RankTraining]:
    """Join the ranks that torchrun started, and set this one up.

    All ranks begin with the weights of rank 0.

    Args:
        model: the whole model, in host memory; the stages of this rank move to its device.
        example_inputs: a batch of one replica.
        loss: of the output; None for the default.
        graph: of one micro-batch.
        schedule: valid for it.
        device_type: ``cpu`` or ``cuda``.
        seed: of the random operators.
        timeout_s: seconds that ranks wait for each other.

    Raises:
        InvalidInputError: the schedule cannot be run on these ranks.
    """
    check_runs_on_ranks(model, graph, schedule, int(os.environ.get("WORLD_SIZE", "1")))
    device = rank_device(device_type)
    with joined_ranks(device, timeout_s):
        world = join_world(schedule.pipeline.num_ranks, schedule.tensor.degree)
        make_equal(model, ())
        count = schedule.pipeline.micro_batches
        example = split_batch(example_inputs, count)[0]
        with (
            shared_layers(model, world.tensor_group) as layers,
            reduced_model(model, reduced_modules(graph)),
        ):
            tape = record_forward(model, example, loss, graph, device)
            pipeline = RankPipeline(model, tape, graph, schedule, world, device, seed)
            yield RankTraining(pipeline, world, device, example_inputs, count, layers)
