"""What a scheduler is given: graph, hardware, costs, batch, world size and budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.chain import Chain
from remora.schedule.costs import CostTable
from remora.schedule.inference import InferenceSpec, Mode

__all__ = ["OPTIMIZERS", "CostTable", "OptimizerSpec", "Problem"]


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """What an optimizer adds to memory.

    Attributes:
        name: key of :data:`OPTIMIZERS`.
        state_per_parameter: state tensors of a parameter's size and dtype.
        step_temporaries: temporaries during the step, in units of the largest parameter.
        counted: False leaves the optimizer (and its step) out.
        master_weights: keeps the state and one more copy of every weight in float32, for models
            in a shorter type.
    """

    name: str
    state_per_parameter: int
    step_temporaries: int
    counted: bool = True
    master_weights: bool = False


OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    "adamw": OptimizerSpec("adamw", 2, 2),
    "adamw_master": OptimizerSpec("adamw_master", 2, 2, master_weights=True),
    "adam": OptimizerSpec("adam", 2, 2),
    "sgd_momentum": OptimizerSpec("sgd_momentum", 1, 0),
    "sgd": OptimizerSpec("sgd", 0, 0),
    "none": OptimizerSpec("none", 0, 0, counted=False),
}


@dataclass(frozen=True)
class Problem:
    """One planning problem.

    Attributes:
        graphs: graph by micro-batch count (the batch of one step cut into that many parts).
        costs: cost table by micro-batch count, same keys.
        hardware: devices, links and their state.
        optimizer: what the optimizer keeps.
        world_size: number of ranks, all replicas together.
        budget_bytes: memory per device, pinned host memory not counted.
        micro_batches: fixed number of micro-batches, or None.
        allow_lossy: whether saved tensors may be compressed, which changes gradients a little.
        state_on_device: whether weights, gradients and optimizer state have to stay there whole.
        inference: tokens and cache of passes of inference, for graphs of a forward alone; None
            for steps of training.

    Raises:
        InvalidInputError: a graph is of the other mode, or an optimizer is counted in inference.
    """

    graphs: Mapping[int, ModelGraph]
    costs: Mapping[int, CostTable]
    hardware: Hardware
    optimizer: OptimizerSpec
    budget_bytes: int
    world_size: int = 1
    micro_batches: int | None = None
    allow_lossy: bool = False
    state_on_device: bool = False
    inference: InferenceSpec | None = None

    def __post_init__(self) -> None:
        """Check that graphs and optimizer are of one mode."""
        forward_only = self.mode is Mode.INFERENCE
        for count, graph in self.graphs.items():
            if graph.forward_only != forward_only:
                traced = "without a backward" if graph.forward_only else "with its backward"
                raise InvalidInputError(
                    f"mode is {self.mode.value!r} and the graph of {count} micro-batches was "
                    f"traced {traced}; allowed: graphs of that mode"
                )
        if forward_only and self.optimizer.counted:
            raise InvalidInputError(
                f"optimizer is {self.optimizer.name!r} with mode='inference'; allowed: 'none'"
            )

    @property
    def mode(self) -> Mode:
        """Whether steps of training or passes of inference are planned."""
        return Mode.TRAIN if self.inference is None else Mode.INFERENCE

    @property
    def graph(self) -> ModelGraph:
        """The graph of the whole batch."""
        return self.graphs[1]

    @property
    def cost(self) -> CostTable:
        """The cost table of the whole batch."""
        return self.costs[1]

    @cached_property
    def chain(self) -> Chain:
        """Per-unit tables of the whole batch, made once."""
        return Chain(self.graph, self.cost)

    @cached_property
    def chains(self) -> Mapping[int, Chain]:
        """Per-unit tables by micro-batch count, made once."""
        return {
            count: self.chain if count == 1 else Chain(graph, self.costs[count])
            for count, graph in self.graphs.items()
        }

    @cached_property
    def memo(self) -> dict[str, Any]:
        """What other folders worked out about this problem once; no part of it."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was worked out is made again where it is needed."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
