"""What one rank of a pipeline does in a training step: its tasks, in the order of the schedule."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from remora.executor.memory.ambient import random_state, random_state_of
from remora.executor.memory.buffers import buffer_slots
from remora.executor.memory.call_recorder import CallRecorder
from remora.executor.memory.forward import ForwardPass
from remora.executor.memory.mover import mover_for
from remora.executor.memory.offload import ForwardClock, OffloadTimeline
from remora.executor.memory.plan import RuntimePlan, stage_runtime_plan
from remora.executor.memory.region import Region
from remora.executor.memory.replay import replay
from remora.executor.pipeline.exchange import Exchange
from remora.executor.pipeline.forward_tape import ForwardTape
from remora.executor.pipeline.letters import Post
from remora.executor.pipeline.parts import cut_tape
from remora.executor.pipeline.seeds import UnitSeeds
from remora.executor.pipeline.shared_weights import SharedWeights
from remora.executor.pipeline.stage import RankStage
from remora.executor.pipeline.stage_module import StageModule
from remora.executor.pipeline.stage_tensors import StageTensors
from remora.executor.pipeline.world import World
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.schedule.orders import Order, TaskKind, pipeline_order, splits_backward
from remora.schedule.schedule import Schedule

__all__ = ["RankPipeline"]


class RankPipeline:
    """The stages of one rank.

    Args:
        model: the whole model; what this rank's stages use of it is trained in place.
        tape: its forward on one micro-batch.
        graph: of one micro-batch.
        schedule: valid for that graph.
        world: where this process stands.
        device: where the stages run; their modules are moved there.
        seed: of the random operators.

    Attributes:
        parameters: of this rank's stages, by name in the model.
        buffers: of the same.
        names: parameters of every rank.  # [num_ranks]
        modules: the stages, in the order of their numbers.
        compression_errors: of saved tensors in the first step, by name.
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
        pipeline = schedule.pipeline
        order = pipeline_order(
            pipeline.kind, world.num_ranks, pipeline.micro_batches, pipeline.chunks
        )
        parts, messages = cut_tape(tape, pipeline.spans(len(graph.units)))
        post = Post(order, messages, len(parts))
        self._world = world
        self._tasks = order.tasks_of(world.rank)
        self._last = _last_backwards(order)
        self._batches: list[list[Any]] = []
        self._seeds = UnitSeeds(graph, seed, world.replica)
        self._device = device
        self.compression_errors: dict[str, float] = {}
        self._memory = _StageMemory(model, graph, device, self.compression_errors)
        on_rank = [_stages_on(order, rank) for rank in range(world.num_ranks)]
        tensors = StageTensors(model, graph)
        of_part = [tensors.parameters(part) for part in parts]
        per_rank = [
            {name: p for stage in stages for name, p in of_part[stage % len(parts)].items()}
            for stages in on_rank
        ]
        self.names = tuple(tuple(sorted(own)) for own in per_rank)
        self.parameters = per_rank[world.rank]
        own = [parts[number % len(parts)] for number in on_rank[world.rank]]
        self.buffers = {n: b for part in own for n, b in tensors.buffers(part).items()}
        self._exchange = Exchange(post, tape.values, world.links, device)
        numbers = on_rank[world.rank]
        plans = {
            number: stage_runtime_plan(graph, schedule.memory, part.index, part.span)
            for number in numbers
            for part in [parts[number % len(parts)]]
        }
        # The pace of copies counts the forwards of all stages of the rank.
        counted = any(plan.offloads for plan in plans.values())
        splits = splits_backward(pipeline.kind)
        self._stages: dict[int, RankStage] = {}
        self.modules: list[StageModule] = []
        for number, plan in plans.items():
            part = parts[number % len(parts)]
            begin = self._memory.passes_of(plan) if counted or not plan.is_empty else None
            border = functools.partial(self._note_border, number) if splits else None
            module = StageModule(model, part, begin, self._leaves_of, self._seeds, border)
            module.to(device)
            self.modules.append(module)
            self._stages[number] = RankStage(
                module,
                part,
                number,
                len(parts),
                tape,
                self._exchange,
                device,
                pipeline.micro_batches,
                world.pipeline,
            )
        self._shared = SharedWeights(self.names, self.parameters, world)

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the receive buffers."""
        return self._exchange.buffer_bytes

    def batch_positions(self) -> frozenset[int]:
        """Positions of the leaves of the batch that this rank reads."""
        return frozenset(p for module in self.modules for p in module.batch_positions)

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
        with _preserved_random_state(self._device):
            self._exchange.begin_step()
            for task in self._tasks:
                self._exchange.begin_task()
                loss = self._run_task(*task)
                if loss is not None:
                    losses[task[2]] = loss
            self._exchange.end_step()
        self._batches = []
        self._shared.sum_gradients()
        self._average_over_replicas()
        return losses

    def _run_task(self, kind: TaskKind, number: int, micro_batch: int) -> Tensor | None:
        stage = self._stages[number]
        if kind is TaskKind.FORWARD:
            return stage.run_forward(micro_batch)
        if kind is TaskKind.BACKWARD:
            stage.run_backward(micro_batch, self._last[number] == micro_batch)
        elif kind is TaskKind.BACKWARD_INPUT:
            stage.run_backward_input(micro_batch)
        else:
            stage.run_backward_weight(micro_batch)
        return None

    def _average_over_replicas(self) -> None:
        if self._world.replicas == 1:
            return
        for name in sorted(self.parameters):
            gradient = self.parameters[name].grad
            if gradient is not None:
                dist.all_reduce(gradient, group=self._world.replica_group)
                gradient.div_(self._world.replicas)

    def _note_border(self, number: int, micro_batch: int, values: list[Tensor]) -> None:
        self._stages[number].note_border(micro_batch, values)

    def _leaves_of(self, micro_batch: int) -> Sequence[Any]:
        return self._batches[micro_batch]


class _StageMemory:
    """What the memory plans of a rank's stages share."""

    def __init__(
        self,
        model: nn.Module,
        graph: ModelGraph,
        device: torch.device,
        errors: dict[str, float],
    ) -> None:
        self._slots = tuple(buffer_slots(model, unit) for unit in graph.units)
        self._device = device
        self._clock = ForwardClock()
        self._mover = mover_for(device)
        self._errors = errors

    def passes_of(self, plan: RuntimePlan) -> Callable[[], ForwardPass]:
        """Return what begins a forward of a stage under its plan."""
        recorder = CallRecorder() if plan.records_calls else None

        def begin() -> ForwardPass:
            timeline = OffloadTimeline(
                self._mover, self._clock, plan.end, plan.window, plan.distance
            )
            return ForwardPass(
                plan,
                self._slots,
                self._device,
                self._clock,
                timeline,
                self._replay,
                recorder,
                self._errors,
            )

        return begin

    def _replay(self, region: Region) -> None:
        replay(region, self._device)


def _stages_on(order: Order, rank: int) -> list[int]:
    return [number for number, at in enumerate(order.stage_rank.tolist()) if at == rank]


def _last_backwards(order: Order) -> dict[int, int]:
    """Micro-batch of the last backward, or second half, of every stage."""
    last: dict[int, int] = {}
    for rank in range(order.num_ranks):
        for kind, stage, micro_batch in order.tasks_of(rank):
            if kind in (TaskKind.BACKWARD, TaskKind.BACKWARD_WEIGHT):
                last[stage] = micro_batch
    return last


@contextlib.contextmanager
def _preserved_random_state(device: torch.device) -> Iterator[None]:
    with random_state_of(random_state(device), device):
        yield
