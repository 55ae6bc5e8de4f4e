"""What one rank of a pipeline does in a training step: its tasks, in the order of the schedule."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils import _pytree as pytree

from remora.executor.memory.ambient import random_state, random_state_of
from remora.executor.pipeline.exchange import Exchange
from remora.executor.pipeline.forward_tape import ForwardTape
from remora.executor.pipeline.rank_layout import RankLayout, layout_of_rank
from remora.executor.pipeline.seeds import UnitSeeds
from remora.executor.pipeline.shared_weights import SharedWeights
from remora.executor.pipeline.stage import RankStage
from remora.executor.pipeline.stage_memory import StageMemory
from remora.executor.pipeline.stage_module import StageModule
from remora.executor.pipeline.world import World
from remora.executor.state.sharding import Replicas
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.schedule.orders import TaskKind, splits_backward
from remora.schedule.schedule import Schedule

__all__ = ["RankPipeline"]


class RankPipeline:
    """The stages of one rank.

    Args:
        model: the whole model; what this rank's stages use of it is trained in place. With ZeRO 2
            and 3 shards take the place of those weights.
        tape: its forward on one micro-batch.
        graph: of one micro-batch.
        schedule: valid for that graph.
        world: where this process stands.
        device: where the stages run; their modules are moved there.
        seed: of the random operators.

    Attributes:
        parameters: of this rank's stages, by name in the model.
        replicas: this rank and the same of other pipelines.
    """

    def __init__(
        self,
        model: nn.Module,
        tape: ForwardTape,
        graph: ModelGraph,
        schedule: Schedule,
        world: World,
        device: torch.device,
        seed: int,
    ) -> None:
        layout = layout_of_rank(model, tape, graph, schedule.pipeline, world.rank)
        self._layout = layout
        self._model = model
        self._device = device
        self._batches: list[list[Any]] = []
        self._seeds = UnitSeeds(graph, seed, world.replica)
        self._memory = StageMemory(model, graph, schedule.memory, layout.parts, device)
        self._exchange = Exchange(layout.post, tape.values, world.links, device)
        self._splits = splits_backward(schedule.pipeline.kind)
        self._modules = {number: self._module(model, number) for number in layout.parts}
        self.replicas = Replicas(
            list(self._modules.values()),
            [module.unit_modules for module in self._modules.values()],
            _direct(model, layout),
            schedule.state,
            world.replica_group,
            device,
        )
        self.parameters = self.replicas.renewed(layout.parameters)
        self._shared = SharedWeights(layout.names, self.parameters, world)
        self._stages = {
            number: RankStage(
                self._modules[number],
                part,
                number,
                layout.num_stages,
                tape,
                self._exchange,
                device,
                schedule.pipeline.micro_batches,
                world.pipeline,
            )
            for number, part in layout.parts.items()
        }

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Present buffers of this rank's stages, by name in the model."""
        return {name: self._model.get_buffer(name) for name in self._layout.buffers}

    @property
    def compression_errors(self) -> dict[str, float]:
        """Errors of compressed tensors in the first step, by name."""
        return dict(self._memory.errors)

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the receive buffers."""
        return self._exchange.buffer_bytes

    def batch_positions(self) -> frozenset[int]:
        """Positions of the leaves of the batch that this rank reads."""
        return frozenset(p for m in self._modules.values() for p in m.batch_positions)

    def run(self, micro_batches: Sequence[ExampleInputs], step: int) -> dict[int, Tensor]:
        """Run forwards and backwards of one step; gradients are added to the parameters'.

        Args:
            micro_batches: of this replica, on the device as far as this rank reads them.
            step: number of the step, from which the seeds of random operators come.

        Returns:
            loss of every micro-batch that ends on this rank, scalars by number.
        """
        self._batches = [pytree.tree_leaves(inputs) for inputs in micro_batches]
        self._seeds.step = step
        losses: dict[int, Tensor] = {}
        with random_state_of(random_state(self._device), self._device):
            self._exchange.begin_step()
            for task in self._layout.tasks:
                self._exchange.begin_task()
                loss = self._run_task(*task)
                if loss is not None:
                    losses[task[2]] = loss
            self._exchange.end_step()
        self._batches = []
        self._shared.sum_gradients()
        self.replicas.end_backward()
        return losses

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Set the weights, take the gradients off, and have the buffers on the device again.

        Every rank calls it.

        Args:
            weights: whole, in host memory, by name in the model.
        """
        _move_buffers(self._modules.values(), self._device)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.grad = None
                value = weights[name].to(self._device)
                if isinstance(parameter, DTensor):
                    value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
                parameter.copy_(value)

    def _run_task(self, kind: TaskKind, number: int, micro_batch: int) -> Tensor | None:
        stage = self._stages[number]
        if kind is TaskKind.FORWARD:
            return stage.run_forward(micro_batch)
        if kind is TaskKind.BACKWARD_WEIGHT:
            stage.run_backward_weight(micro_batch)
            return None
        last = self._layout.last[number] == micro_batch
        self.replicas.begin_backward(self._modules[number], last)
        if kind is TaskKind.BACKWARD:
            stage.run_backward(micro_batch)
        else:
            stage.run_backward_input(micro_batch)
        return None

    def _module(self, model: nn.Module, number: int) -> StageModule:
        border = functools.partial(self._note_border, number) if self._splits else None
        module = StageModule(
            model,
            self._layout.parts[number],
            self._memory.passes_of(number),
            lambda micro_batch: self._batches[micro_batch],
            self._seeds,
            border,
        )
        return module.to(self._device)

    def _note_border(self, number: int, micro_batch: int, values: list[Tensor]) -> None:
        self._stages[number].note_border(micro_batch, values)


def _direct(model: nn.Module, layout: RankLayout) -> list[nn.Parameter]:
    """Weights that stages read without calling the module that has them."""
    names = {
        origin.parameter
        for part in layout.parts.values()
        for origin in part.origins.values()
        if origin.parameter is not None
    }
    return [model.get_parameter(name) for name in sorted(names)]


def _move_buffers(stages: Iterable[nn.Module], device: torch.device) -> None:
    """Move buffers that were put back where they were at first; shared ones stay shared."""
    moved: dict[int, Tensor] = {}
    for table in (module._buffers for stage in stages for module in stage.modules()):
        for name, buffer in table.items():
            if buffer is not None:
                table[name] = moved.setdefault(id(buffer), buffer.to(device))
