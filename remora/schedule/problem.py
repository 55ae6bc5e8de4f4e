"""What a scheduler is given: graph, hardware, costs, batch, world size and budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.chain import Chain
from remora.schedule.costs import CostTable
from remora.schedule.inference import InferenceSpec, Mode
from remora.schedule.ranks import check_world
from remora.schedule.schedule import Schedule

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
        replicas: the only number of data-parallel replicas, or None. The batch is that of one.
        variants: the same step with other tensor degrees or numbers of replicas, which share its
            world size, hardware and budget; no variant has variants.

    Raises:
        InvalidInputError: a graph is of the other mode, an optimizer is counted in inference, or
            tensor degree and replicas do not divide the world size.
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
    replicas: int | None = None
    variants: tuple[Problem, ...] = ()

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
        check_world(self.world_size, self.tensor_degree, self.replicas, self.hardware)

    @property
    def mode(self) -> Mode:
        """Whether steps of training or passes of inference are planned."""
        return Mode.TRAIN if self.inference is None else Mode.INFERENCE

    @cached_property
    def graph(self) -> ModelGraph:
        """The graph of the whole batch, or of the largest part of it that was traced."""
        return self.graphs[min(self.graphs)]

    @cached_property
    def cost(self) -> CostTable:
        """The cost table of that graph."""
        return self.costs[min(self.costs)]

    @property
    def tensor_degree(self) -> int:
        """Ranks that share every layer."""
        return self.graph.tensor_degree

    @property
    def num_groups(self) -> int:
        """Groups of ranks that share layers: ranks of all pipelines together."""
        return self.world_size // self.tensor_degree

    @property
    def pipeline_sizes(self) -> tuple[int, ...]:
        """Numbers of ranks that a pipeline may have, largest first."""
        groups = self.num_groups
        if self.replicas is not None:
            return (groups // self.replicas,)
        return tuple(p for p in range(groups, 0, -1) if groups % p == 0)

    @property
    def family(self) -> tuple[Problem, ...]:
        """This problem and its variants."""
        return (self, *self.variants)

    def with_budget(self, budget_bytes: int) -> Problem:
        """The same problem and variants under another budget."""
        variants = tuple(variant.with_budget(budget_bytes) for variant in self.variants)
        return replace(self, budget_bytes=budget_bytes, variants=variants)

    def variant_of(self, schedule: Schedule) -> Problem:
        """The variant that a schedule belongs to; this problem where it belongs to none."""
        return next((v for v in self.variants if v.takes(schedule)), self)

    def takes(self, schedule: Schedule) -> bool:
        """Whether a schedule has this problem's tensor degree and number of replicas."""
        replicas = self.world_size / schedule.num_devices
        return schedule.graph_hash == self.graph.content_hash and self.replicas in (None, replicas)

    @cached_property
    def chain(self) -> Chain:
        """Per-unit tables of the whole batch, made once."""
        return Chain(self.graph, self.cost)

    @cached_property
    def chains(self) -> Mapping[int, Chain]:
        """Per-unit tables by micro-batch count, made once."""
        return {
            count: self.chain if graph is self.graph else Chain(graph, self.costs[count])
            for count, graph in self.graphs.items()
        }

    @cached_property
    def memo(self) -> dict[str, Any]:
        """What other folders worked out about this problem once; no part of it."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was worked out is made again where it is needed."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
